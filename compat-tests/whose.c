/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints whether io_setup and the context are the kernel's or ours. */
#include <dlfcn.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How many events the kernel has reserved for all contexts of the system. */
static long aio_nr(void)
{
    char text[32] = "";
    long nr = -1;
    int fd = open("/proc/sys/fs/aio-nr", O_RDONLY);

    if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
        sscanf(text, "%ld", &nr);
    if (fd >= 0)
        close(fd);
    return nr;
}

/* Whether a mapping of the kernel's AIO begins at the context's address. */
static int kernels(io_context_t ctx)
{
    char line[512], start[32];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");

    snprintf(start, sizeof(start), "%lx-", (unsigned long)ctx);
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        if ((strncmp(line, start, strlen(start)) == 0 ||
             (strspn(line, "0") == 4 && strstr(line, start) == line + 4)) &&
            strstr(line, "[aio]") != NULL)
            found = 1;
    if (maps != NULL)
        fclose(maps);
    return found;
}

int main(void)
{
    Dl_info info = { 0 };
    io_context_t ctx = NULL;
    int ret = io_setup(1, &ctx);

    if (ret != 0) {
        printf("io_setup: %d\n", ret);
        return 1;
    }
    dladdr((void *)io_setup, &info);
    if (kernels(ctx))
        printf("the kernel (%s, aio-nr %ld)\n", info.dli_fname != NULL ? info.dli_fname : "?", aio_nr());
    else
        puts("ours");
    return 0;
}
