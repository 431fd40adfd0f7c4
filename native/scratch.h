/*
 * A /tmp of limited size: a file that holds an ext4 file system, mounted where only this process and its children
 * see it. The mount ends with the last of them, and with the mount the loop device: nothing is left to be undone,
 * however they end.
 */
#ifndef REMORA_SCRATCH_H
#define REMORA_SCRATCH_H

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOP_TRIES = 100, SCRATCH_BLOCK_BYTES = 4096 };

/* Others look for a free loop device at the same time: whoever was faster has it, and the next one is tried. */
static int attach_loop(int image, char *device, size_t room) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return -1;
    for (int i = 0; i < LOOP_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return -1;
        snprintf(device, room, "/dev/loop%d", number);
        int loop = open(device, O_RDWR | O_CLOEXEC);
        if (loop < 0)
            return -1;
        struct loop_config how = {
            .fd = (uint32_t)image, .block_size = SCRATCH_BLOCK_BYTES, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
        if (ioctl(loop, LOOP_CONFIGURE, &how) == 0) {
            close(control);
            return loop;
        }
        close(loop);
        if (errno != EBUSY)
            return -1;
    }
    return -1;
}

/* Mount `image` on `directory` in a mount namespace of our own. -1 with errno and the step that failed. */
static int enter_scratch(const char *image, const char *directory, const char **step) {
    char device[32];
    int file = open(image, O_RDWR | O_CLOEXEC), loop;
    *step = "open the image";
    if (file < 0)
        return -1;
    *step = "make a mount namespace";
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return -1;
    *step = "attach a loop device";
    if ((loop = attach_loop(file, device, sizeof device)) < 0)
        return -1;
    *step = "mount the image";
    if (mount(device, directory, "ext4", MS_NOSUID | MS_NODEV | MS_NOATIME, "noinit_itable,discard") < 0)
        return -1;
    close(loop);
    close(file);
    *step = "prepare its root";
    return chdir(directory) < 0 || (rmdir("lost+found") < 0 && errno != ENOENT) || chmod(".", 01777) < 0 ? -1 : 0;
}

#endif
