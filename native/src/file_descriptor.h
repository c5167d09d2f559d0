#ifndef IMAGEIO_NATIVE_FILE_DESCRIPTOR_H_
#define IMAGEIO_NATIVE_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace imageio {

// Owns an open descriptor until it is released.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.Release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ != -1) close(fd_);
  }

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_FILE_DESCRIPTOR_H_
