#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "arguments.h"
#include "functions.h"
#include "read_fully.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

// Keeps the Buffer alive while a call uses its memory.
class BufferWorker : public SystemCallWorker {
 public:
  BufferWorker(Napi::Env env, const char* name, int fd, const ByteBuffer& buffer, int64_t offset)
      : SystemCallWorker(env, name),
        fd_(fd),
        data_(buffer.Data()),
        size_(buffer.Length()),
        offset_(offset),
        buffer_(Napi::Persistent(buffer)) {}

 private:
  Napi::Value Result(Napi::Env env) final {
    return Napi::Number::New(env, static_cast<double>(done_));
  }

 protected:
  const int fd_;
  uint8_t* const data_;
  const size_t size_;
  const int64_t offset_;
  size_t done_ = 0;

 private:
  const Napi::Reference<ByteBuffer> buffer_;
};

class ReadWorker final : public BufferWorker {
 public:
  ReadWorker(Napi::Env env, int fd, const ByteBuffer& buffer, int64_t offset)
      : BufferWorker(env, "imageio.pread", fd, buffer, offset) {}

 private:
  void Call() override {
    const ssize_t size = ReadFully(fd_, data_, size_, offset_);
    if (size == -1) return Fail("pread", errno);
    done_ = static_cast<size_t>(size);
  }
};

class WriteWorker final : public BufferWorker {
 public:
  WriteWorker(Napi::Env env, int fd, const ByteBuffer& buffer, int64_t offset)
      : BufferWorker(env, "imageio.pwrite", fd, buffer, offset) {}

 private:
  void Call() override {
    const ssize_t size = Try("pwrite", [this] { return pwrite(fd_, data_, size_, offset_); });
    if (size != -1) done_ = static_cast<size_t>(size);
  }
};

class FlushWorker final : public SystemCallWorker {
 public:
  FlushWorker(Napi::Env env, int fd) : SystemCallWorker(env, "imageio.fdatasync"), fd_(fd) {}

 private:
  void Call() override {
    Try("fdatasync", [this] { return fdatasync(fd_); });
  }

  const int fd_;
};

}  // namespace

Napi::Value Pread(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const ByteBuffer buffer = BufferArgument(info, 1, "buffer");
  return Start<ReadWorker>(info, fd, buffer, SizeArgument(info, 2, "offset"));
}

Napi::Value Pwrite(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const ByteBuffer buffer = BufferArgument(info, 1, "buffer");
  return Start<WriteWorker>(info, fd, buffer, SizeArgument(info, 2, "offset"));
}

Napi::Value Fdatasync(const Napi::CallbackInfo& info) {
  return Start<FlushWorker>(info, DescriptorArgument(info, 0));
}

}  // namespace imageio
