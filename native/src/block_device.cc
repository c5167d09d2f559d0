#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cstdint>

#include "arguments.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

// Asks the device one number.
class DeviceWorker : public SystemCallWorker {
 public:
  DeviceWorker(Napi::Env env, const char* name, int fd) : SystemCallWorker(env, name), fd_(fd) {}

 protected:
  void Found(uint64_t number) { number_ = number; }

  const int fd_;

 private:
  Napi::Value Result(Napi::Env env) final {
    return Napi::Number::New(env, static_cast<double>(number_));
  }

  uint64_t number_ = 0;
};

class SizeWorker final : public DeviceWorker {
 public:
  SizeWorker(Napi::Env env, int fd) : DeviceWorker(env, "imageio.blockDeviceSize", fd) {}

 private:
  void Call() override {
    uint64_t size = 0;
    if (Try(kSystemCall, [&] { return ioctl(fd_, BLKGETSIZE64, &size); }) == -1) return;
    if (size > kMaxSafeInteger) return Fail(kSystemCall, EOVERFLOW);
    Found(size);
  }

  static constexpr const char* kSystemCall = "ioctl(BLKGETSIZE64)";
};

class SectorSizeWorker final : public DeviceWorker {
 public:
  SectorSizeWorker(Napi::Env env, int fd)
      : DeviceWorker(env, "imageio.blockDeviceSectorSize", fd) {}

 private:
  void Call() override {
    int size = 0;
    const int result = Try("ioctl(BLKSSZGET)", [&] { return ioctl(fd_, BLKSSZGET, &size); });
    if (result != -1) Found(static_cast<uint64_t>(size));
  }
};

// The device's own way of changing a range without data being sent.
class RangeWorker : public SystemCallWorker {
 public:
  RangeWorker(Napi::Env env, const char* name, int fd, int64_t offset, int64_t size)
      : SystemCallWorker(env, name),
        fd_(fd),
        range_{static_cast<uint64_t>(offset), static_cast<uint64_t>(size)} {}

 protected:
  const int fd_;
  uint64_t range_[2];
};

class ZeroOutWorker final : public RangeWorker {
 public:
  ZeroOutWorker(Napi::Env env, int fd, int64_t offset, int64_t size)
      : RangeWorker(env, "imageio.blockDeviceZeroOut", fd, offset, size) {}

 private:
  void Call() override {
    Try("ioctl(BLKZEROOUT)", [this] { return ioctl(fd_, BLKZEROOUT, range_); });
  }
};

class DiscardWorker final : public RangeWorker {
 public:
  DiscardWorker(Napi::Env env, int fd, int64_t offset, int64_t size)
      : RangeWorker(env, "imageio.blockDeviceDiscard", fd, offset, size) {}

 private:
  void Call() override {
    Try("ioctl(BLKDISCARD)", [this] { return ioctl(fd_, BLKDISCARD, range_); });
  }
};

template <typename Worker>
Napi::Value StartRange(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const int64_t offset = SizeArgument(info, 1, "offset");
  return Start<Worker>(info, fd, offset, SizeArgument(info, 2, "size"));
}

}  // namespace

Napi::Value BlockDeviceSize(const Napi::CallbackInfo& info) {
  return Start<SizeWorker>(info, DescriptorArgument(info, 0));
}

Napi::Value BlockDeviceSectorSize(const Napi::CallbackInfo& info) {
  return Start<SectorSizeWorker>(info, DescriptorArgument(info, 0));
}

Napi::Value BlockDeviceZeroOut(const Napi::CallbackInfo& info) {
  return StartRange<ZeroOutWorker>(info);
}

Napi::Value BlockDeviceDiscard(const Napi::CallbackInfo& info) {
  return StartRange<DiscardWorker>(info);
}

}  // namespace imageio
