#ifndef IMAGEIO_NATIVE_READ_FULLY_H_
#define IMAGEIO_NATIVE_READ_FULLY_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace imageio {

// pread(2) until `size` bytes are there or the file ends. Returns their number, or -1 with errno,
// also when the error came after some bytes.
ssize_t ReadFully(int fd, uint8_t* data, size_t size, int64_t offset);

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_READ_FULLY_H_
