# Spans of a real tracer (ddtrace), which publishes them for each thread (OTEP 4947), and its resource
# (OTEP 4719): `traced.py THREADS STEPS`. In each span a file is opened that is named by it and is not there;
# outside of any, /nobody.
import sys
import threading
import time

from ddtrace.trace import tracer


def fail(path):
    try:
        open(path).close()
    except OSError:
        pass


def serve(steps):
    for step in range(steps):
        with tracer.trace("step") as span:
            fail(f"/span/{span.trace_id:032x}/{span.span_id:016x}")
            time.sleep(0.0005)
            with tracer.trace("part") as part:
                fail(f"/span/{part.trace_id:032x}/{part.span_id:016x}")
            fail(f"/span/{span.trace_id:032x}/{span.span_id:016x}")
        if step % 3 == 0:
            fail("/nobody")


threads, steps = int(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for _ in sys.stdin:
    all = [threading.Thread(target=serve, args=(steps,)) for _ in range(threads)]
    for thread in all:
        thread.start()
    for thread in all:
        thread.join()
    print("done", flush=True)
