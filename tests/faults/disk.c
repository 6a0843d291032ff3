/* A disk that forgets, fills up or is slow, and a clock that jumps; preloaded into a server.
 *
 * What a process writes to a database file is kept in its memory until it is fsynced, and reads see
 * it there, as the page cache would. So a SIGKILL is a power failure: whatever was not fsynced is
 * gone, except for what this disk happened to write earlier, whole or torn, as disks do.
 *
 * Only files with ".db" in their name and not "-shm" (shared memory, gone after a power failure
 * anyway) are treated so. The metadata of a file (its being there, its length) is durable at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES 256
#define DESCRIPTORS 65536
#define SECTOR 512
#define BLOCK 4096
#define BUCKETS 1024
#define RETIRED ((ino_t)-1)

/* Written by the test, while the server runs; see disk.py. */
struct control {
    volatile int64_t full;           /* Writes end with ENOSPC. */
    volatile int64_t fsync_us;       /* What an fsync takes. */
    volatile int64_t clock_us;       /* Added to the wall clock. */
    volatile int64_t early_percent;  /* Writes that reach the disk before their fsync, or a part. */
    volatile int64_t lies;           /* fsync returns, and nothing is written. */
};

/* What was written to a block since the last fsync: a server reads through thousands of them. */
struct pending {
    struct pending *next;
    off_t number;
    char data[BLOCK];
    char written[BLOCK];             /* Which bytes of it. */
};

struct file {
    dev_t device;
    ino_t inode;
    struct pending *buckets[BUCKETS];
    int blocks;
    off_t end;                       /* Of the last byte that was written and is pending. */
};

static struct control defaults;
static struct control *control = &defaults;
static struct file files[FILES];
static struct file *opened[DESCRIPTORS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int seed;

static int (*real_unlink)(const char *);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_close)(int);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_open)(const char *, int, ...);
static int (*real_fstat)(int, struct stat *);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_pread = dlsym(RTLD_NEXT, "pread64");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_open = dlsym(RTLD_NEXT, "open64");
    real_fstat = dlsym(RTLD_NEXT, "fstat64");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("FAULTY_DISK");
    int fd = path ? real_open(path, O_RDWR) : -1;
    if (fd >= 0) {
        void *mapped = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED)
            control = mapped;
        real_close(fd);
    }
    seed = (unsigned int)getpid();
}

static int is_treated(const char *path)
{
    return strstr(path, ".db") != NULL && strstr(path, "-shm") == NULL;
}

/* The file behind a descriptor that was just opened. Called with the lock. */
static struct file *known(int fd)
{
    struct stat found;
    if (real_fstat(fd, &found) != 0)
        return NULL;
    struct file *unused = NULL;
    for (int at = 0; at < FILES; at++) {
        if (files[at].inode == found.st_ino && files[at].device == found.st_dev)
            return &files[at];
        if (files[at].inode == 0 && unused == NULL)
            unused = &files[at];
    }
    if (unused == NULL)
        abort();
    unused->device = found.st_dev;
    unused->inode = found.st_ino;
    return unused;
}

static struct file *treated(int fd)
{
    return fd >= 0 && fd < DESCRIPTORS ? opened[fd] : NULL;
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    int fd = real_open(path, flags, mode);
    if (fd >= 0 && fd < DESCRIPTORS) {
        pthread_mutex_lock(&lock);
        opened[fd] = is_treated(path) ? known(fd) : NULL;
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open64(path, flags, mode);
}

int close(int fd)
{
    /* What was written stays pending: closing a file does not write it. */
    if (fd >= 0 && fd < DESCRIPTORS)
        opened[fd] = NULL;
    return real_close(fd);
}

int unlink(const char *path)
{
    struct stat found;
    if (is_treated(path) && stat(path, &found) == 0) {
        pthread_mutex_lock(&lock);
        for (int at = 0; at < FILES; at++)
            if (files[at].inode == found.st_ino && files[at].device == found.st_dev)
                /* Another file may get its number; whoever has this one open goes on with it. */
                files[at].inode = RETIRED;
        pthread_mutex_unlock(&lock);
    }
    return real_unlink(path);
}

/* So much of what begins there is in the same block. */
static size_t part_in_block(off_t at, size_t length)
{
    size_t left = BLOCK - (size_t)(at % BLOCK);
    return length < left ? length : left;
}

/* NULL: nothing is pending there. This and what follows: called with the lock. */
static struct pending *block(struct file *file, off_t number)
{
    struct pending *one = file->buckets[number % BUCKETS];
    while (one && one->number != number)
        one = one->next;
    return one;
}

static struct pending *new_block(struct file *file, off_t number)
{
    struct pending *one = calloc(1, sizeof *one);
    if (one == NULL)
        abort();
    one->number = number;
    one->next = file->buckets[number % BUCKETS];
    file->buckets[number % BUCKETS] = one;
    file->blocks++;
    return one;
}

static void drop(struct file *file, struct pending **at)
{
    struct pending *one = *at;
    *at = one->next;
    free(one);
    file->blocks--;
}

static void write_block(int fd, const struct pending *one)
{
    for (size_t from = 0, until; from < BLOCK; from = until) {
        until = from + 1;
        while (until < BLOCK && one->written[until] == one->written[from])
            until++;
        ssize_t length = (ssize_t)(until - from);
        if (one->written[from]
            && real_pwrite(fd, one->data + from, (size_t)length,
                           one->number * BLOCK + (off_t)from) != length)
            abort();
    }
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset)
{
    struct file *file = treated(fd);
    if (file == NULL)
        return real_pwrite(fd, data, length, offset);
    if (control->full) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&lock);
    for (size_t done = 0, part; done < length; done += part) {
        off_t at = offset + (off_t)done;
        part = part_in_block(at, length - done);
        struct pending *one = block(file, at / BLOCK);
        if (one == NULL)
            one = new_block(file, at / BLOCK);
        memcpy(one->data + at % BLOCK, (const char *)data + done, part);
        memset(one->written + at % BLOCK, 1, part);
    }
    if (offset + (off_t)length > file->end)
        file->end = offset + (off_t)length;
    if ((int64_t)(rand_r(&seed) % 100) < control->early_percent) {
        size_t early = length;
        if (rand_r(&seed) % 2)
            early = (size_t)rand_r(&seed) % (length / SECTOR + 1) * SECTOR;
        if (early)
            real_pwrite(fd, data, early, offset);
    }
    pthread_mutex_unlock(&lock);
    return (ssize_t)length;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return pwrite64(fd, data, length, offset);
}

static off_t size_of(int fd, struct file *file)
{
    struct stat found;
    off_t size = real_fstat(fd, &found) == 0 ? found.st_size : 0;
    return file->end > size ? file->end : size;
}

ssize_t pread64(int fd, void *data, size_t length, off_t offset)
{
    struct file *file = treated(fd);
    if (file == NULL)
        return real_pread(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    off_t size = size_of(fd, file);
    ssize_t found = real_pread(fd, data, length, offset);
    if (found >= 0) {
        size_t there = offset >= size ? 0 : (size_t)(size - offset);
        there = there < length ? there : length;
        if ((size_t)found < there)
            memset((char *)data + found, 0, there - (size_t)found);
        for (size_t done = 0, part; done < there; done += part) {
            off_t at = offset + (off_t)done;
            part = part_in_block(at, there - done);
            struct pending *one = block(file, at / BLOCK);
            for (size_t byte = 0; one && byte < part; byte++)
                if (one->written[(size_t)(at % BLOCK) + byte])
                    ((char *)data)[done + byte] = one->data[(size_t)(at % BLOCK) + byte];
        }
        found = (ssize_t)there;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
    return pread64(fd, data, length, offset);
}

static int synced(int fd, int (*real)(int))
{
    struct file *file = treated(fd);
    if (file == NULL)
        return real(fd);
    if (control->fsync_us)
        usleep((useconds_t)control->fsync_us);
    if (control->lies)
        return 0;
    if (control->full && file->blocks) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&lock);
    for (int bucket = 0; file->blocks && bucket < BUCKETS; bucket++)
        while (file->buckets[bucket]) {
            write_block(fd, file->buckets[bucket]);
            drop(file, &file->buckets[bucket]);
        }
    file->end = 0;
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd)
{
    return synced(fd, real_fsync);
}

int fdatasync(int fd)
{
    return synced(fd, real_fdatasync);
}

int ftruncate64(int fd, off_t length)
{
    struct file *file = treated(fd);
    if (file != NULL) {
        pthread_mutex_lock(&lock);
        for (int bucket = 0; file->blocks && bucket < BUCKETS; bucket++)
            for (struct pending **at = &file->buckets[bucket]; *at;) {
                off_t begin = (*at)->number * BLOCK;
                if (begin >= length) {
                    drop(file, at);
                    continue;
                }
                if (begin + BLOCK > length)
                    memset((*at)->written + (length - begin), 0, (size_t)(begin + BLOCK - length));
                at = &(*at)->next;
            }
        if (file->end > length)
            file->end = length;
        pthread_mutex_unlock(&lock);
    }
    return real_ftruncate(fd, length);
}

int ftruncate(int fd, off_t length)
{
    return ftruncate64(fd, length);
}

int fstat64(int fd, struct stat64 *found)
{
    int answer = real_fstat(fd, (struct stat *)found);
    struct file *file = treated(fd);
    if (answer == 0 && file != NULL) {
        pthread_mutex_lock(&lock);
        found->st_size = size_of(fd, file);
        pthread_mutex_unlock(&lock);
    }
    return answer;
}

int fstat(int fd, struct stat *found)
{
    return fstat64(fd, (struct stat64 *)found);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int answer = real_clock_gettime(clock, now);
    if (answer == 0 && control->clock_us
        && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + control->clock_us * 1000;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return answer;
}
