/* A disk between a program and the kernel: LD_PRELOAD it, and every change under one folder is noted or made to fail.
 *
 * FAULTDISK_FOLDER names the folder (a real path). FAULTDISK_JOURNAL, if set, names a file outside it that gets one
 * record for each operation that changed something, in the order in which they happened; `journal.py` reads it.
 * fsync is noted and not carried out: which bytes would survive a loss of power is worked out from the journal.
 * Files whose name ends in "-shm" are memory by another name, and are left alone.
 *
 * A program loads this library again with ctypes and calls faultdisk_mark, faultdisk_arm, faultdisk_capacity and
 * faultdisk_count. One lock makes all operations under the folder serial, so the journal's order is the true one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 65536

enum kind { OPEN, WRITE, FSYNC, TRUNCATE, UNLINK, RENAME, LINK, READ, KINDS };

struct seen {
    uint64_t inode;
    int is_folder;
    char name[256];
};

static struct seen *descriptors[DESCRIPTORS_MAX];
static pthread_mutex_t serial = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static int journal = -1;

static long counts[KINDS];
static struct {
    int kinds; /* a bit for each kind; 0 is disarmed */
    char suffix[64];
    long skip;  /* matching operations that still go through */
    long times; /* operations that then fail; -1 is all of them until disarmed */
    int error;
    int part; /* a failing write still writes half of its bytes */
    long failed;
} fault;
static int64_t capacity = -1; /* bytes that all files may hold together; -1 is no limit */

#define REAL(result, name, ...)                                       \
    static result (*real_##name)(__VA_ARGS__);                        \
    if (!real_##name) real_##name = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *place = getenv("FAULTDISK_FOLDER");
    if (!place || !realpath(place, folder)) return;
    folder_length = strlen(folder);
    const char *record = getenv("FAULTDISK_JOURNAL");
    if (record) {
        REAL(int, open64, const char *, int, ...);
        journal = real_open64(record, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (journal < 0) abort();
    }
    /* A program started from here has its own file descriptors and must not begin this journal anew. */
    unsetenv("FAULTDISK_FOLDER");
    unsetenv("FAULTDISK_JOURNAL");
    unsetenv("LD_PRELOAD");
}

static void give_up(const char *why) {
    dprintf(2, "the fault disk cannot go on: %s\n", why);
    abort();
}

/* Records: kind, inode, offset, length of the payload, payload. */
static void note(char kind, uint64_t inode, uint64_t offset, const void *payload, uint32_t length) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (journal < 0) return;
    char head[21];
    head[0] = kind;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &length, 4);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)payload, length}};
    if (real_writev(journal, parts, length ? 2 : 1) != (ssize_t)(sizeof head + length)) give_up("journal not written");
}

static void note_names(char kind, uint64_t inode, const char *first, const char *second) {
    char both[1024];
    size_t a = strlen(first), b = second ? strlen(second) + 1 : 0;
    if (a + b >= sizeof both) give_up("a name is too long");
    memcpy(both, first, a);
    if (second) {
        both[a] = 0;
        memcpy(both + a + 1, second, b - 1);
    }
    note(kind, inode, 0, both, (uint32_t)(a + b));
}

/* The name below the folder ("" is the folder itself), NULL for a path elsewhere. */
static const char *below(const char *path, char *buffer) {
    if (!folder_length || !path) return NULL;
    char whole[PATH_MAX];
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole)) return NULL;
        if (snprintf(buffer, PATH_MAX, "%s/%s", whole, path) >= PATH_MAX) return NULL;
    } else if (snprintf(buffer, PATH_MAX, "%s", path) >= PATH_MAX) {
        return NULL;
    }
    if (strncmp(buffer, folder, folder_length)) return NULL;
    if (buffer[folder_length] == 0) return buffer + folder_length;
    if (buffer[folder_length] != '/') return NULL;
    const char *name = buffer + folder_length + 1;
    while (*name == '/') name++;
    size_t length = strlen(name);
    if (length >= 4 && !strcmp(name + length - 4, "-shm")) return NULL;
    if (length >= 256) give_up("a name is too long");
    return name;
}

static struct seen *watched(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX ? descriptors[descriptor] : NULL;
}

/* The same for a path that may be relative to an open folder. */
static const char *below_at(int at, const char *path, char *buffer) {
    if (at == AT_FDCWD || !path || path[0] == '/') return below(path, buffer);
    struct seen *parent = watched(at);
    if (!parent || !parent->is_folder) return NULL;
    char whole[PATH_MAX];
    if (snprintf(whole, PATH_MAX, "%s/%s%s%s", folder, parent->name, *parent->name ? "/" : "", path) >= PATH_MAX) return NULL;
    return below(whole, buffer);
}

/* Count an operation; return the error it has to fail with, or 0. */
static int failing(enum kind kind, const char *name) {
    counts[kind]++;
    if (!(fault.kinds & (1 << kind))) return 0;
    size_t length = strlen(name), suffix = strlen(fault.suffix);
    if (suffix > length || strcmp(name + length - suffix, fault.suffix)) return 0;
    if (fault.skip > 0) {
        fault.skip--;
        return 0;
    }
    if (fault.times == 0) return 0;
    if (fault.times > 0) fault.times--;
    fault.failed++;
    return fault.error;
}

/* Bytes that one file may still grow to, given what all files hold. */
static int64_t room(int descriptor, int64_t end) {
    if (capacity < 0) return end;
    struct stat found;
    int64_t others = 0;
    uint64_t counted[256];
    int known = 0;
    if (fstat(descriptor, &found)) return end;
    uint64_t own = found.st_ino;
    int64_t size = found.st_size;
    for (int i = 0; i < 1024 && known < 256; i++) {
        struct seen *file = descriptors[i];
        if (!file || file->is_folder || file->inode == own) continue;
        int twice = 0;
        for (int j = 0; j < known; j++) twice |= counted[j] == file->inode;
        if (twice || fstat(i, &found)) continue;
        counted[known++] = file->inode;
        others += found.st_size;
    }
    if (end <= size) return end;
    int64_t most = capacity - others;
    if (most < size) most = size;
    return end < most ? end : most;
}

/* What a program tells the disk. */

void faultdisk_mark(const char *text, uint32_t length) {
    pthread_mutex_lock(&serial);
    note('M', 0, 0, text, length);
    pthread_mutex_unlock(&serial);
}

void faultdisk_arm(int kinds, const char *suffix, long skip, long times, int error, int part) {
    pthread_mutex_lock(&serial);
    snprintf(fault.suffix, sizeof fault.suffix, "%s", suffix);
    fault.kinds = kinds;
    fault.skip = skip;
    fault.times = times;
    fault.error = error;
    fault.part = part;
    fault.failed = 0;
    pthread_mutex_unlock(&serial);
}

long faultdisk_failed(void) { return fault.failed; }

long faultdisk_count(int kind) { return counts[kind]; }

void faultdisk_capacity(int64_t bytes) {
    pthread_mutex_lock(&serial);
    capacity = bytes;
    pthread_mutex_unlock(&serial);
}

/* Opening and closing */

static int opened(int at, const char *path, int flags, mode_t mode) {
    REAL(int, openat64, int, const char *, int, ...);
    char buffer[PATH_MAX];
    const char *name = below_at(at, path, buffer);
    if (!name) return real_openat64(at, path, flags, mode);
    pthread_mutex_lock(&serial);
    int error = failing(OPEN, name);
    if (error) {
        pthread_mutex_unlock(&serial);
        errno = error;
        return -1;
    }
    struct stat before, after;
    int existed = fstatat(at, path, &before, 0) == 0;
    int descriptor = real_openat64(at, path, flags, mode);
    if (descriptor >= DESCRIPTORS_MAX) give_up("too many files are open");
    if (descriptor >= 0 && fstat(descriptor, &after) == 0) {
        struct seen *file = calloc(1, sizeof *file);
        if (!file) give_up("no memory");
        file->inode = after.st_ino;
        file->is_folder = S_ISDIR(after.st_mode);
        snprintf(file->name, sizeof file->name, "%s", name);
        free(descriptors[descriptor]);
        descriptors[descriptor] = file;
        if (!existed) note_names('C', file->inode, name, NULL);
        else if ((flags & O_TRUNC) && before.st_size) note('T', file->inode, 0, NULL, 0);
    }
    pthread_mutex_unlock(&serial);
    return descriptor;
}

#define MODE_OF(flags)                                     \
    mode_t mode = 0;                                       \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {               \
        va_list more;                                      \
        va_start(more, flags);                             \
        mode = va_arg(more, mode_t);                       \
        va_end(more);                                      \
    }

int open64(const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(AT_FDCWD, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(at, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(at, path, flags, mode);
}

int close(int descriptor) {
    REAL(int, close, int);
    if (!watched(descriptor)) return real_close(descriptor);
    pthread_mutex_lock(&serial);
    free(descriptors[descriptor]);
    descriptors[descriptor] = NULL;
    int result = real_close(descriptor);
    pthread_mutex_unlock(&serial);
    return result;
}

/* Writing */

static ssize_t written(int descriptor, const void *data, size_t length, off64_t offset, int moves) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    struct seen *file = descriptors[descriptor];
    pthread_mutex_lock(&serial);
    int error = failing(WRITE, file->name);
    size_t most = length;
    if (error) most = fault.part ? length / 2 : 0;
    if (moves) {
        struct stat found;
        int append = fcntl(descriptor, F_GETFL) & O_APPEND;
        offset = append && !fstat(descriptor, &found) ? found.st_size : lseek64(descriptor, 0, SEEK_CUR);
    }
    int64_t end = room(descriptor, offset + (int64_t)most);
    if (end < offset + (int64_t)most) {
        most = end > offset ? (size_t)(end - offset) : 0;
        if (!error) error = ENOSPC;
    }
    ssize_t result = most ? real_pwrite64(descriptor, data, most, offset) : 0;
    if (result > 0) {
        note('W', file->inode, (uint64_t)offset, data, (uint32_t)result);
        if (moves) lseek64(descriptor, offset + result, SEEK_SET);
    }
    if (error && (result <= 0 || error == EIO)) {
        result = -1;
        errno = error;
    }
    pthread_mutex_unlock(&serial);
    return result;
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    if (!watched(descriptor)) return real_pwrite64(descriptor, data, length, offset);
    return written(descriptor, data, length, offset, 0);
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) {
    return pwrite64(descriptor, data, length, offset);
}

ssize_t write(int descriptor, const void *data, size_t length) {
    REAL(ssize_t, write, int, const void *, size_t);
    if (!watched(descriptor)) return real_write(descriptor, data, length);
    return written(descriptor, data, length, 0, 1);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (!watched(descriptor)) return real_writev(descriptor, parts, count);
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t one = written(descriptor, parts[i].iov_base, parts[i].iov_len, 0, 1);
        if (one < 0) return total ? total : one;
        total += one;
        if ((size_t)one < parts[i].iov_len) break;
    }
    return total;
}

ssize_t pread64(int descriptor, void *data, size_t length, off64_t offset) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    struct seen *file = watched(descriptor);
    if (file) {
        pthread_mutex_lock(&serial);
        int error = failing(READ, file->name);
        pthread_mutex_unlock(&serial);
        if (error) {
            errno = error;
            return -1;
        }
    }
    return real_pread64(descriptor, data, length, offset);
}

int ftruncate64(int descriptor, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    struct seen *file = watched(descriptor);
    if (!file) return real_ftruncate64(descriptor, size);
    pthread_mutex_lock(&serial);
    int error = failing(TRUNCATE, file->name);
    if (!error && room(descriptor, size) < size) error = ENOSPC;
    int result = error ? -1 : real_ftruncate64(descriptor, size);
    if (result == 0) note('T', file->inode, (uint64_t)size, NULL, 0);
    if (error) errno = error;
    pthread_mutex_unlock(&serial);
    return result;
}

int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

/* Making durable. A failed fsync leaves nothing behind that a later one would write: the kernel calls the pages clean.
 * One that was only interrupted has done nothing. */

static int synced(int descriptor) {
    struct seen *file = descriptors[descriptor];
    pthread_mutex_lock(&serial);
    int error = failing(FSYNC, file->is_folder ? "/" : file->name);
    char letter = file->is_folder ? (error ? 'd' : 'D') : (error ? 's' : 'S');
    if (error != EINTR) note(letter, file->inode, 0, file->name, (uint32_t)strlen(file->name));
    pthread_mutex_unlock(&serial);
    if (!error) return 0;
    errno = error;
    return -1;
}

int fsync(int descriptor) {
    REAL(int, fsync, int);
    return watched(descriptor) ? synced(descriptor) : real_fsync(descriptor);
}

int fdatasync(int descriptor) {
    REAL(int, fdatasync, int);
    return watched(descriptor) ? synced(descriptor) : real_fdatasync(descriptor);
}

/* Names */

static int named(enum kind kind, char letter, const char *from, const char *to, int (*act)(const char *, const char *)) {
    char first[PATH_MAX], second[PATH_MAX];
    const char *source = below(from, first), *target = to ? below(to, second) : NULL;
    if (!source && !target) return act(from, to);
    if (to && (!source || !target)) give_up("a file moves into or out of the folder");
    pthread_mutex_lock(&serial);
    struct stat found;
    int error = failing(kind, target ? target : source);
    int known = !error && lstat(from, &found) == 0;
    int result = error ? -1 : act(from, to);
    if (result == 0 && known) note_names(S_ISDIR(found.st_mode) ? 'P' : letter, found.st_ino, source, target);
    if (error) errno = error;
    pthread_mutex_unlock(&serial);
    return result;
}

static int act_unlink(const char *from, const char *to) {
    REAL(int, unlink, const char *);
    (void)to;
    return real_unlink(from);
}

static int act_rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return real_rename(from, to);
}

static int act_link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    return real_link(from, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    if (!name || !*name) return real_mkdir(path, mode);
    pthread_mutex_lock(&serial);
    struct stat found;
    int result = real_mkdir(path, mode);
    if (result == 0 && stat(path, &found) == 0) note_names('N', found.st_ino, name, NULL);
    pthread_mutex_unlock(&serial);
    return result;
}

int unlink(const char *path) { return named(UNLINK, 'U', path, NULL, act_unlink); }

int unlinkat(int at, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    char buffer[PATH_MAX];
    const char *name = flags & AT_REMOVEDIR ? NULL : below_at(at, path, buffer);
    if (!name) return real_unlinkat(at, path, flags);
    return unlink(buffer);
}

int rename(const char *from, const char *to) { return named(RENAME, 'R', from, to, act_rename); }

int link(const char *from, const char *to) { return named(LINK, 'L', from, to, act_link); }

/* What would write past this library is refused, so that nothing goes unnoted. */

void *mmap64(void *address, size_t length, int protection, int flags, int descriptor, off64_t offset) {
    REAL(void *, mmap64, void *, size_t, int, int, int, off64_t);
    if (watched(descriptor) && (protection & PROT_WRITE) && (flags & MAP_SHARED)) give_up("a file is written as memory");
    return real_mmap64(address, length, protection, flags, descriptor, offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return mmap64(address, length, protection, flags, descriptor, offset);
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    if (!watched(out)) return real_sendfile64(out, in, offset, count);
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count) { return sendfile64(out, in, offset, count); }

int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
    REAL(int, fallocate64, int, int, off64_t, off64_t);
    if (!watched(descriptor)) return real_fallocate64(descriptor, mode, offset, length);
    errno = EOPNOTSUPP;
    return -1;
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t length) {
    REAL(int, posix_fallocate64, int, off64_t, off64_t);
    return watched(descriptor) ? EOPNOTSUPP : real_posix_fallocate64(descriptor, offset, length);
}
