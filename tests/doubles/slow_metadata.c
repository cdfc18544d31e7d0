/* A file system with slow metadata, as a file server over a network has: 300 microseconds for each file's status, 1 millisecond
   for each directory that is opened to be listed. Only calls that name a file relative to an open directory are slow, which is
   how a tree is walked; how a program starts is not.

   cc -shared -fPIC -O2 -o slow_metadata.so slow_metadata.c -ldl; LD_PRELOAD=$PWD/slow_metadata.so find ... */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

enum { STATUS = 300000, DIRECTORY = 1000000 };

static void answer_after(long nanoseconds) {
  struct timespec time = {0, nanoseconds};
  nanosleep(&time, 0);
}

#define SLOW(name, result, parameters, arguments)                                                                              \
  result name parameters {                                                                                                     \
    static result(*real) parameters;                                                                                           \
    if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);                                                           \
    if (directory != AT_FDCWD) answer_after(STATUS);                                                                           \
    return real arguments;                                                                                                     \
  }

SLOW(fstatat, int, (int directory, const char *path, struct stat *found, int flags), (directory, path, found, flags))
SLOW(fstatat64, int, (int directory, const char *path, struct stat64 *found, int flags), (directory, path, found, flags))
SLOW(__fxstatat, int, (int version, int directory, const char *path, struct stat *found, int flags),
     (version, directory, path, found, flags))
SLOW(__fxstatat64, int, (int version, int directory, const char *path, struct stat64 *found, int flags),
     (version, directory, path, found, flags))

DIR *fdopendir(int descriptor) {
  static DIR *(*real)(int);
  if (!real) real = (DIR * (*)(int)) dlsym(RTLD_NEXT, "fdopendir");
  answer_after(DIRECTORY);
  return real(descriptor);
}
