/*
 * What Debian's static archives of libmnl and libnftnl ask of us.
 *
 * They were compiled against glibc, and not for size. Two of their features would cost the
 * program more bytes than all the rest of them, so these are cut off here: printing, which mef
 * never does through libnftnl, and the expressions that mef's rules do not have.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/*
 * Printing. All callers are the *_snprintf and *_fprintf functions of the two libraries, and
 * nothing of mef calls those: here they print an empty text. So musl's printf with its floating
 * point stays out. The names ending in _chk are glibc's, of _FORTIFY_SOURCE; sysroot.sh gives
 * plain snprintf in libnftnl the name silent_snprintf, so that musl's own remains what it is.
 */
int __fprintf_chk(FILE *stream, int flag, const char *format, ...)
{
	(void)stream, (void)flag, (void)format;
	return 0;
}

int __snprintf_chk(char *out, size_t size, int flag, size_t real_size, const char *format, ...)
{
	(void)flag, (void)real_size, (void)format;
	if (size > 0)
		*out = '\0';
	return 0;
}

int silent_snprintf(char *out, size_t size, const char *format, ...)
{
	(void)format;
	if (size > 0)
		*out = '\0';
	return 0;
}

/* Where libnftnl would tell that it and its caller do not fit together (stderr, by sysroot.sh). */
FILE *silent_stderr;

#if __SIZEOF_POINTER__ == 4
/* What these are called in glibc where a time has 64 bits; musl has no other. */
#include <sys/socket.h>

ssize_t __recvmsg64(int fd, struct msghdr *message, int flags)
{
	return recvmsg(fd, message, flags);
}

int __getsockopt64(int fd, int level, int name, void *value, socklen_t *length)
{
	return getsockopt(fd, level, name, value, length);
}

int __setsockopt64(int fd, int level, int name, const void *value, socklen_t length)
{
	return setsockopt(fd, level, name, value, length);
}
#endif

/*
 * Two functions of libmnl that others in it call. Its own stand in one object with one that prints messages. Weak: where
 * that object gets linked all the same, its functions count.
 */
struct header {
	unsigned int length;
};

__attribute__((weak)) void *mnl_nlmsg_get_payload_tail(struct header *message)
{
	return (char *)message + ((message->length + 3) & ~3u);
}

__attribute__((weak)) void *mnl_nlmsg_get_payload_offset(void *message, size_t offset)
{
	return (char *)message + 16 + ((offset + 3) & ~(size_t)3);
}

/*
 * The expressions of src/firewall/nft/expr.rs (a test there compares). libnftnl looks every
 * expression up by name in a table of all of them; this is that function over a shorter table.
 * sysroot.sh takes libnftnl's out of the archive and puts this file into it.
 */
#define EXPRESSIONS(X) \
	X(bitwise) X(cmp) X(connlimit) X(counter) X(ct) X(dynset) X(immediate) X(limit) \
	X(log) X(lookup) X(meta) X(payload) X(range) X(reject) X(socket)

#define DECLARE(kind) extern char expr_ops_##kind[];
#define ENTRY(kind) { #kind, expr_ops_##kind },

EXPRESSIONS(DECLARE)

static const struct {
	const char *name;
	void *ops;
} table[] = { EXPRESSIONS(ENTRY) };

void *nftnl_expr_ops_lookup(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].ops;
	return NULL;
}
