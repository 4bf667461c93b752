// Has the thread-local pointer of OTEP 4947, or takes it from a library that has. Says
// `OFFSET VALUE`: where the pointer lies, counted from the thread pointer and from the start of
// its object's block; then waits for the end of standard input.
//
// With -DLIBRARY this is the library, with -DELSEWHERE the program that takes it from there.
#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <stdio.h>

#ifdef ELSEWHERE
extern __thread void *otel_thread_ctx_v1;
#else
// What stands before it, and its alignment, move it away from the block's ends.
__thread char before[40] = "before";
__thread _Alignas(64) char aligned[72] = "aligned";
__thread void *otel_thread_ctx_v1;
__thread char after[20];
#endif

#ifndef LIBRARY
static int in_block(struct dl_phdr_info *object, size_t size, void *found) {
  (void)size;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    uintptr_t from = (uintptr_t)object->dlpi_tls_data;
    uintptr_t at = (uintptr_t)&otel_thread_ctx_v1;
    if (object->dlpi_phdr[i].p_type == PT_TLS && from != 0 && at >= from &&
        at < from + object->dlpi_phdr[i].p_memsz) {
      *(long *)found = (long)(at - from);
    }
  }
  return 0;
}

int main(void) {
  long offset = -1;
  dl_iterate_phdr(in_block, &offset);
  char *pointer = (char *)&otel_thread_ctx_v1;
  printf("%ld %ld\n", (long)(pointer - (char *)__builtin_thread_pointer()), offset);
  fflush(stdout);
  while (getchar() != EOF) {
  }
  return 0;
}
#endif
