// peak: what the kernel takes of the machine's memory, in kB, looked at every two milliseconds until SIGTERM.
// Prints "began BEFORE PEAK AFTER", and "began" alone when it has begun.
// peak steps: likewise, with what all processes of mef take together; prints "KERNEL MEF", the peaks since the
// last such line, at every SIGUSR1.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ended, asked;

static void on_term(int number) { (void)number; ended = 1; }
static void on_usr1(int number) { (void)number; asked = 1; }

static long larger(long one, long other) { return one > other ? one : other; }

static long field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? atol(at + strlen(name)) : 0;
}

// Everything but what is free, belongs to processes, or is a cache that goes when it has to.
static long taken(int file)
{
    char text[4096];
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    if (length <= 0)
        exit(1);
    text[length] = 0;
    return field(text, "MemTotal:") - field(text, "MemFree:") - field(text, "Buffers:") - field(text, "\nCached:")
        - field(text, "AnonPages:") - field(text, "SReclaimable:");
}

// The resident memory of a process in kB, if it is one of mef.
static long of_mef(const char *pid)
{
    char path[300], text[512];
    long pages;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *file = fopen(path, "re");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[length] = 0;
    const char *name = strstr(text, " (mef) ");
    // Fields 3 to 24 of proc(5).
    if (!name || sscanf(name + 7, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
            " %*s %ld", &pages) != 1)
        return 0;
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static long taken_by_mef(DIR *proc)
{
    long sum = 0;
    rewinddir(proc);
    for (struct dirent *entry; (entry = readdir(proc));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            sum += of_mef(entry->d_name);
    return sum;
}

static void rest(long milliseconds)
{
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

static int steps(int file)
{
    DIR *proc = opendir("/proc");
    long kernel = 0, mef = 0;
    if (!proc)
        return 1;
    while (!ended) {
        kernel = larger(kernel, taken(file));
        mef = larger(mef, taken_by_mef(proc));
        if (asked) {
            asked = 0;
            printf("%ld %ld\n", kernel, mef);
            fflush(stdout);
            kernel = mef = 0;
        }
        rest(10);
    }
    return 0;
}

static int whole(int file)
{
    long before = taken(file), peak = before;
    printf("began");
    fflush(stdout);
    while (!ended) {
        peak = larger(peak, taken(file));
        rest(2);
    }
    rest(2000); // what is freed later, is
    printf(" %ld %ld %ld\n", before, peak, taken(file));
    return 0;
}

int main(int count, char **words)
{
    struct sched_param first = { .sched_priority = 10 };
    struct sigaction term = { .sa_handler = on_term }, usr1 = { .sa_handler = on_usr1 };
    int file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (file < 0 || mlockall(MCL_CURRENT) < 0 || sigaction(SIGTERM, &term, NULL) < 0
        || sigaction(SIGUSR1, &usr1, NULL) < 0)
        return 1;
    sched_setscheduler(0, SCHED_FIFO, &first);
    return count > 1 && strcmp(words[1], "steps") == 0 ? steps(file) : whole(file);
}
