#include "read_fully.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "system_call_worker.h"

namespace imageio {

namespace {

// Direct I/O reads the last bytes of a file of odd size and then may refuse to be asked for more at
// that odd offset. The file's size tells that apart from an end that never was.
bool IsUnalignedEnd(int fd, int64_t position) {
  if ((fcntl(fd, F_GETFL) & O_DIRECT) == 0) return false;
  const off_t end = lseek(fd, 0, SEEK_END);
  return end != -1 && position >= end;
}

}  // namespace

ssize_t ReadFully(int fd, uint8_t* data, size_t size, int64_t offset) {
  size_t done = 0;
  // At least once, so that a read of nothing still tells a bad descriptor.
  do {
    const int64_t position = offset + static_cast<int64_t>(done);
    const ssize_t got =
        RetryInterrupted([&] { return pread(fd, data + done, size - done, position); });
    if (got == -1) {
      const int error = errno;
      if (error == EINVAL && done > 0 && IsUnalignedEnd(fd, position)) break;
      errno = error;
      return -1;
    }
    if (got == 0) break;
    done += static_cast<size_t>(got);
  } while (done < size);
  return static_cast<ssize_t>(done);
}

}  // namespace imageio
