// peak: what the kernel takes of the machine's memory, in kB, looked at every two milliseconds until SIGTERM.
// Prints "began BEFORE PEAK AFTER", and "began" alone when it has begun.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void on_term(int number) { (void)number; ended = 1; }

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

static void rest(long milliseconds)
{
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

int main(void)
{
    struct sched_param first = { .sched_priority = 10 };
    struct sigaction action = { .sa_handler = on_term };
    int file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (file < 0 || mlockall(MCL_CURRENT) < 0 || sigaction(SIGTERM, &action, NULL) < 0)
        return 1;
    sched_setscheduler(0, SCHED_FIFO, &first);
    long before = taken(file), peak = before;
    printf("began");
    fflush(stdout);
    while (!ended) {
        long now = taken(file);
        if (now > peak)
            peak = now;
        rest(2);
    }
    rest(2000); // what is freed later, is
    printf(" %ld %ld %ld\n", before, peak, taken(file));
    return 0;
}
