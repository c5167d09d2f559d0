#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <cstdint>

#include "arguments.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

class TruncateWorker final : public SystemCallWorker {
 public:
  TruncateWorker(Napi::Env env, int fd, int64_t size)
      : SystemCallWorker(env, "imageio.truncate"), fd_(fd), size_(size) {}

 private:
  void Call() override {
    Try("ftruncate", [this] { return ftruncate(fd_, size_); });
  }

  const int fd_;
  const int64_t size_;
};

class FallocateWorker final : public SystemCallWorker {
 public:
  FallocateWorker(Napi::Env env, int fd, int mode, int64_t offset, int64_t size)
      : SystemCallWorker(env, "imageio.fallocate"),
        fd_(fd),
        mode_(mode),
        offset_(offset),
        size_(size) {}

 private:
  // Not posix_fallocate(3), which would write zeroes where the file system can't allocate.
  void Call() override {
    Try("fallocate", [this] { return fallocate(fd_, mode_, offset_, size_); });
  }

  const int fd_;
  const int mode_;
  const int64_t offset_;
  const int64_t size_;
};

}  // namespace

Napi::Value Truncate(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  return Start<TruncateWorker>(info, fd, SizeArgument(info, 1, "size"));
}

Napi::Value Fallocate(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const int64_t mode = SizeArgument(info, 1, "mode");
  if (mode > INT_MAX) throw Napi::RangeError::New(info.Env(), "mode must be flags of fallocate");
  const int64_t offset = SizeArgument(info, 2, "offset");
  const int64_t size = SizeArgument(info, 3, "size");
  return Start<FallocateWorker>(info, fd, static_cast<int>(mode), offset, size);
}

}  // namespace imageio
