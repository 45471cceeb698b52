/* A panic inside the library, asked for by the feature test-panic, is a status, on any thread, and the process goes on. */

#include "watermark.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C"
#endif
wmk_status wmk_test_panic(void);

static void *on_a_thread(void *result)
{
    *(wmk_status *)result = wmk_test_panic();
    return NULL;
}

int main(void)
{
    wmk_status status = WMK_STATUS_OK;
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        if (wmk_test_panic() != WMK_STATUS_PANIC || strstr(wmk_last_error(), "defect") == NULL)
            return 1;
    if (pthread_create(&thread, NULL, on_a_thread, &status) != 0 || pthread_join(thread, NULL) != 0)
        return 2;
    if (status != WMK_STATUS_PANIC)
        return 3;
    puts("a panic is a status");
    return 0;
}
