#!/usr/bin/python3
"""A file system that passes everything on to a folder: faulty_fs.py FOLDER MOUNT SETTINGS

SETTINGS is a file of words; without it nothing is disturbed: `delay_ms=N`, `errno=NAME`,
`ops=read,write,fsync,open`.
"""

import errno
import os
import sys
import time

import fusepy


class Faulty(fusepy.Operations):
    def __init__(self, root, settings):
        self.root, self.settings = root, settings

    def disturb(self, operation):
        try:
            with open(self.settings) as file:
                words = dict(word.split("=") for word in file.read().split())
        except (OSError, ValueError):
            return
        if operation not in words.get("ops", "read,write,fsync").split(","):
            return
        time.sleep(float(words.get("delay_ms", 0)) / 1000)
        if "errno" in words:
            raise fusepy.FuseOSError(getattr(errno, words["errno"]))

    def real(self, path):
        return self.root + path

    def getattr(self, path, handle=None):
        found = os.lstat(self.real(path))
        names = ("atime", "ctime", "gid", "mode", "mtime", "nlink", "size", "uid")
        return {f"st_{name}": getattr(found, f"st_{name}") for name in names}

    def readdir(self, path, handle):
        return [".", "..", *os.listdir(self.real(path))]

    def open(self, path, flags):
        self.disturb("open")
        return os.open(self.real(path), flags)

    def create(self, path, mode, info=None):
        self.disturb("open")
        made = os.open(self.real(path), os.O_RDWR | os.O_CREAT, mode)
        uid, gid, _ = fusepy.fuse_get_context()
        os.fchown(made, uid, gid)
        return made

    def read(self, path, size, offset, handle):
        self.disturb("read")
        return os.pread(handle, size, offset)

    def write(self, path, data, offset, handle):
        self.disturb("write")
        return os.pwrite(handle, data, offset)

    def fsync(self, path, datasync, handle):
        self.disturb("fsync")
        os.fsync(handle)

    def flush(self, path, handle):
        return 0

    def release(self, path, handle):
        os.close(handle)

    def truncate(self, path, length, handle=None):
        os.truncate(self.real(path), length)

    def unlink(self, path):
        os.unlink(self.real(path))

    def rename(self, old, new):
        os.rename(self.real(old), self.real(new))

    def mkdir(self, path, mode):
        os.mkdir(self.real(path), mode)
        uid, gid, _ = fusepy.fuse_get_context()
        os.chown(self.real(path), uid, gid)

    def rmdir(self, path):
        os.rmdir(self.real(path))

    def chmod(self, path, mode):
        os.chmod(self.real(path), mode)

    def chown(self, path, uid, gid):
        os.chown(self.real(path), uid, gid)

    def utimens(self, path, times=None):
        os.utime(self.real(path), times)

    def statfs(self, path):
        found = os.statvfs(self.real(path))
        names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "frsize")
        return {f"f_{name}": getattr(found, f"f_{name}") for name in names}


root, mount, settings = sys.argv[1:]
options = dict(foreground=True, allow_other=True, default_permissions=True, direct_io=True)
fusepy.FUSE(Faulty(root, settings), mount, **options)
