/* Receives frames from a ring that Python fills, and sends back how bright each is.  c_program.py compiles and starts it.
 *
 *     cc $(python -m shmkit.include) -O2 c_program.c -o c_program      */
#include "shmkit.h"

#include <stdio.h>

int main(int argc, char **argv) {
    static shmkit_consumer_t frames;
    static shmkit_producer_t answers;
    static shmkit_record_t frame;
    shmkit_status_t status;

    if (argc != 3) {
        fprintf(stderr, "usage: %s FRAMES ANSWERS\n", argv[0]);
        return 2;
    }
    if ((status = shmkit_consumer_attach(&frames, argv[1])) != SHMKIT_OK ||
        (status = shmkit_producer_attach(&answers, argv[2])) != SHMKIT_OK) {
        fprintf(stderr, "%s or %s: %s\n", argv[1], argv[2], shmkit_status_text(status));
        return 1;
    }
    /* The frame is read where it lies, in shared memory: nothing is copied. */
    while ((status = shmkit_consumer_recv_view(&frames, &frame, SHMKIT_WAIT_FOREVER)) == SHMKIT_OK) {
        const uint8_t *pixels = (const uint8_t *)frame.data;
        double sum = 0;
        for (uint64_t i = 0; i < frame.nbytes; i++)
            sum += pixels[i];
        printf("C: a frame of %lld x %lld, dtype %s\n", (long long)frame.array.shape[0],
               (long long)frame.array.shape[1], frame.array.dtype);
        shmkit_consumer_release(&frames, &frame);

        shmkit_array_t form;
        const int64_t shape[1] = {1};
        const double mean = frame.nbytes ? sum / (double)frame.nbytes : 0;
        shmkit_array_describe(&form, "<f8", 1, shape);
        status = shmkit_producer_send_array(&answers, &form, &mean, 5.0);
        if (status != SHMKIT_OK)
            break;
    }
    printf("C: %s\n", shmkit_status_text(status));
    shmkit_consumer_close(&frames);
    shmkit_producer_close(&answers);
    return status == SHMKIT_CLOSED ? 0 : 1;
}
