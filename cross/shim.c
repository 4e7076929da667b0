/*
 * Debian builds its static archives of libmnl and libnftnl against glibc with
 * _FORTIFY_SOURCE, so they call the checking variants that glibc has of a few functions
 * and musl has not. Here they are, in terms of what musl has.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int __fprintf_chk(FILE *stream, int flag, const char *format, ...)
{
	va_list args;
	int written;

	(void)flag;
	va_start(args, format);
	written = vfprintf(stream, format, args);
	va_end(args);
	return written;
}

int __snprintf_chk(char *out, size_t size, int flag, size_t real_size, const char *format, ...)
{
	va_list args;
	int written;

	(void)flag;
	if (size > real_size)
		abort();
	va_start(args, format);
	written = vsnprintf(out, size, format, args);
	va_end(args);
	return written;
}

/*
 * Likewise, Debian's libgcc looks unwind tables up through glibc. There are none (discard.ld).
 * Only a ready-made standard library gets here, for the backtrace it prints on request.
 */
int _dl_find_object(void *pc, void *result)
{
	(void)pc;
	(void)result;
	return -1;
}
