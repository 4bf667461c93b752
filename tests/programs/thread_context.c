// Has the thread-local pointer of OTEP 4947, or takes it from a library that has. Says
// `OFFSET VALUE MODULE`: where the pointer lies, counted from the thread pointer and from the start of
// its object's block, and the number of that object; then waits for the end of standard input.
//
// With -DLIBRARY this is the library, with -DELSEWHERE the program that uses it from there, and with
// -DOPENED one that opens it once it runs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>

#if !defined(ELSEWHERE) && !defined(OPENED)
// What stands before it, and its alignment, move it away from the block's ends.
__thread char before[40] = "before";
__thread _Alignas(64) char aligned[72] = "aligned";
__thread void *otel_thread_ctx_v1;
__thread char after[20];

void *where(void) { return &otel_thread_ctx_v1; }
#else
void *where(void);
#endif

#ifndef LIBRARY
static uintptr_t at;

static int in_block(struct dl_phdr_info *object, size_t size, void *found) {
  (void)size;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    uintptr_t from = (uintptr_t)object->dlpi_tls_data;
    if (object->dlpi_phdr[i].p_type == PT_TLS && from != 0 && at >= from &&
        at < from + object->dlpi_phdr[i].p_memsz) {
      ((long *)found)[0] = (long)(at - from);
      ((long *)found)[1] = (long)object->dlpi_tls_modid;
    }
  }
  return 0;
}

int main(int count, char **words) {
  long found[2] = {-1, -1};
#ifdef OPENED
  void *library = count > 1 ? dlopen(words[1], RTLD_NOW) : 0;
  void *(*where_in)(void) = library ? (void *(*)(void))dlsym(library, "where") : 0;
  if (!where_in) {
    return 1;
  }
  at = (uintptr_t)where_in();
#else
  (void)count, (void)words;
  at = (uintptr_t)where();
#endif
  dl_iterate_phdr(in_block, found);
  char *pointer = (char *)at;
  printf("%ld %ld %ld\n", (long)(pointer - (char *)__builtin_thread_pointer()), found[0], found[1]);
  fflush(stdout);
  while (getchar() != EOF) {
  }
  return 0;
}
#endif
