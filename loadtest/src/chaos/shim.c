/* Preloaded into each node of a chaos run: its wall clock can be wrong and its disk slow, by two numbers in a file that both
 * map. All other clocks are the machine's own: exactness rests on those. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *dials; /* milliseconds: the wall clock is ahead by, each fsync takes longer by */
static int (*next_clock)(clockid_t, struct timespec *);
static int (*next_fsync)(int);
static int (*next_fdatasync)(int);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CHAOS_DIALS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    next_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    next_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    next_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (file >= 0) {
        void *map = mmap(0, 16, PROT_READ, MAP_SHARED, file, 0);
        dials = map == MAP_FAILED ? 0 : map;
        close(file);
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int done = next_clock ? next_clock(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && dials && dials[0] && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = now->tv_nsec + dials[0] % 1000 * 1000000;
        now->tv_sec += dials[0] / 1000;
        if (nanos >= 1000000000) {
            nanos -= 1000000000;
            now->tv_sec++;
        } else if (nanos < 0) {
            nanos += 1000000000;
            now->tv_sec--;
        }
        now->tv_nsec = nanos;
    }
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told)
{
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    if (told)
        *told = exact.tv_sec;
    return exact.tv_sec;
}

static void dawdle(void)
{
    if (dials && dials[1] > 0) {
        struct timespec wait = {dials[1] / 1000, dials[1] % 1000 * 1000000};
        nanosleep(&wait, 0);
    }
}

int fsync(int file)
{
    dawdle();
    return next_fsync ? next_fsync(file) : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    dawdle();
    return next_fdatasync ? next_fdatasync(file) : (int)syscall(SYS_fdatasync, file);
}
