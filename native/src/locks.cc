#include <fcntl.h>

#include <cstdint>

#include "arguments.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

class IsLockedWorker final : public SystemCallWorker {
 public:
  IsLockedWorker(Napi::Env env, int fd, int64_t start, int64_t size)
      : SystemCallWorker(env, "imageio.isLocked"), fd_(fd) {
    asked_.l_type = F_WRLCK;
    asked_.l_whence = SEEK_SET;
    asked_.l_start = start;
    asked_.l_len = size;
  }

 private:
  // Asked for, not taken: a descriptor that only reads may do that as well.
  void Call() override {
    Try("fcntl(F_OFD_GETLK)", [&] { return fcntl(fd_, F_OFD_GETLK, &asked_); });
  }

  Napi::Value Result(Napi::Env env) override {
    return Napi::Boolean::New(env, asked_.l_type != F_UNLCK);
  }

  const int fd_;
  struct flock asked_ {};
};

}  // namespace

Napi::Value IsLocked(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const int64_t start = SizeArgument(info, 1, "start");
  const int64_t size = SizeArgument(info, 2, "size");
  // fcntl takes 0 for everything up to the end, wherever that will be.
  if (size == 0) throw Napi::RangeError::New(info.Env(), "size must not be 0");
  return Start<IsLockedWorker>(info, fd, start, size);
}

}  // namespace imageio
