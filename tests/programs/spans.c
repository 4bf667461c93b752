// Serves requests on several threads and says for each which span it works for (OTEP 4947), like an
// asynchronous runtime: any thread may go on with any request. Says `ready`, does its part at every
// line, and says `done`.
//
// spans THREADS STEPS swap|record
//
// A step of a request makes calls that fail on paths that name the request's span: `/span/<id>`; between
// steps a thread works for nobody, and fails on `/nobody`. `swap`: every request has a record of its own, to
// which the thread's pointer is set. `record`: every thread has one, which is changed in place.
//
// With -DLIBRARY the part that publishes is a library, with -DELSEWHERE the program uses that.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct __attribute__((packed, aligned(2))) record {
  uint8_t trace[16];
  uint8_t span[8];
  uint8_t valid;
  uint8_t flags;
  uint16_t attributes;
};

void attach(struct record *record);
void detach(void);

#ifndef ELSEWHERE
__thread struct record *otel_thread_ctx_v1;

void attach(struct record *record) {
  atomic_signal_fence(memory_order_seq_cst);
  *(struct record *volatile *)&otel_thread_ctx_v1 = record;
}

void detach(void) {
  *(struct record *volatile *)&otel_thread_ctx_v1 = 0;
  atomic_signal_fence(memory_order_seq_cst);
}
#endif

#ifndef LIBRARY
enum { REQUESTS = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct record records[REQUESTS];
static uint64_t next_span = 1;
static int free_requests[REQUESTS], free_count;
static int steps, in_place;

static void fill(struct record *record, uint64_t span) {
  memset(record->trace, 0x5a, sizeof record->trace);
  memcpy(record->trace, &span, sizeof span);
  memcpy(record->span, &span, sizeof span);
  record->flags = 1;
  record->attributes = 0;
}

static void work(const char *path) {
  int fd = open(path, O_RDONLY);
  if (fd >= 0) {
    close(fd);
  }
}

static void *serve(void *nothing) {
  struct record own;
  memset(&own, 0, sizeof own);
  if (in_place) {
    attach(&own);
  }
  for (int step = 0; step < steps; step++) {
    pthread_mutex_lock(&lock);
    int request = free_requests[--free_count];
    // A request ends now and then, and another one begins.
    uint64_t span = next_span;
    if (step % 3 == 0) {
      next_span++;
      fill(&records[request], span);
      records[request].valid = 1;
    }
    pthread_mutex_unlock(&lock);
    memcpy(&span, records[request].span, sizeof span);

    char path[64];
    snprintf(path, sizeof path, "/span/%016llx", (unsigned long long)span);
    if (in_place) {
      fill(&own, span);
      atomic_signal_fence(memory_order_seq_cst);
      *(volatile uint8_t *)&own.valid = 1;
    } else {
      attach(&records[request]);
    }
    work(path);
    if (step % 2) {
      usleep(100);
      work(path);
    }
    if (in_place) {
      *(volatile uint8_t *)&own.valid = 0;
      atomic_signal_fence(memory_order_seq_cst);
    } else {
      detach();
    }
    if (step % 5 == 0) {
      work("/nobody");
    }

    pthread_mutex_lock(&lock);
    // The one that was put back last is not the one that is taken next.
    int other = rand() % (free_count + 1);
    free_requests[free_count++] = free_requests[other];
    free_requests[other] = request;
    pthread_mutex_unlock(&lock);
    usleep(100);
  }
  detach();
  return nothing;
}

int main(int count, char **words) {
  if (count != 4) {
    return 2;
  }
  int threads = atoi(words[1]);
  steps = atoi(words[2]);
  in_place = !strcmp(words[3], "record");
  for (; free_count < REQUESTS; free_count++) {
    free_requests[free_count] = free_count;
    fill(&records[free_count], next_span++);
    records[free_count].valid = 1;
  }
  puts("ready");
  fflush(stdout);
  char line[16];
  while (fgets(line, sizeof line, stdin)) {
    pthread_t all[64];
    for (int i = 0; i < threads; i++) {
      pthread_create(&all[i], 0, serve, 0);
    }
    for (int i = 0; i < threads; i++) {
      pthread_join(all[i], 0);
    }
    puts("done");
    fflush(stdout);
  }
  return 0;
}
#endif
