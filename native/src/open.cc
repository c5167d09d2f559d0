#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "file_descriptor.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

namespace {

std::string ProcPath(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

// What is wrong with a descriptor that /proc does not list.
int ErrorOf(int fd, int error) {
  return error == ENOENT && fcntl(fd, F_GETFD) == -1 ? EBADF : error;
}

// Closes the descriptor again when nobody is left to take it.
class OpenWorker : public SystemCallWorker {
 public:
  using SystemCallWorker::SystemCallWorker;

 protected:
  void Opened(int fd) { descriptor_ = FileDescriptor(fd); }

 private:
  Napi::Value Result(Napi::Env env) final { return Napi::Number::New(env, descriptor_.get()); }
  void Delivered() final { descriptor_.Release(); }

  FileDescriptor descriptor_;
};

class OpenPathWorker final : public OpenWorker {
 public:
  OpenPathWorker(Napi::Env env, std::string path)
      : OpenWorker(env, "imageio.openPath"), path_(std::move(path)) {}

 private:
  void Call() override {
    const int fd = RetryInterrupted([this] { return OpenAt2(); });
    // Kernels before 5.6 lack openat2; there magic links are followed.
    if (fd == -1 && errno == ENOSYS) {
      Opened(Try("open", [this] { return open(path_.c_str(), kFlags); }));
    } else if (fd == -1) {
      Fail("openat2", errno);
    } else {
      Opened(fd);
    }
  }

  int OpenAt2() const {
    open_how how{};
    how.flags = kFlags;
    how.resolve = RESOLVE_NO_MAGICLINKS;
    return static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path_.c_str(), &how, sizeof(how)));
  }

  static constexpr int kFlags = O_PATH | O_CLOEXEC;
  const std::string path_;
};

class ReopenWorker final : public OpenWorker {
 public:
  ReopenWorker(Napi::Env env, int fd, int flags)
      : OpenWorker(env, "imageio.reopen"), fd_(fd), flags_(flags) {}

 private:
  void Call() override {
    const std::string path = ProcPath(fd_);
    const int opened =
        RetryInterrupted([&] { return open(path.c_str(), flags_ | O_CLOEXEC | O_NOCTTY); });
    if (opened == -1) return Fail("open", ErrorOf(fd_, errno));
    Opened(opened);
  }

  const int fd_;
  const int flags_;
};

class CloseWorker final : public SystemCallWorker {
 public:
  CloseWorker(Napi::Env env, int fd) : SystemCallWorker(env, "imageio.closeDescriptor"), fd_(fd) {}

 private:
  // Not repeated after EINTR: Linux has freed the number by then, and another thread may already
  // have got the same one for something else.
  void Call() override {
    if (close(fd_) == -1 && errno != EINTR) Fail("close", errno);
  }

  const int fd_;
};

}  // namespace

Napi::Value OpenPath(const Napi::CallbackInfo& info) {
  return Start<OpenPathWorker>(info, PathArgument(info, 0, "path"));
}

Napi::Value Reopen(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const int access = BooleanArgument(info, 1, "write") ? O_RDWR : O_RDONLY;
  const int direct = BooleanArgument(info, 2, "direct") ? O_DIRECT : 0;
  return Start<ReopenWorker>(info, fd, access | direct);
}

Napi::Value DescriptorPath(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  const std::string link = ProcPath(fd);
  for (std::vector<char> path(256);; path.resize(path.size() * 2)) {
    const ssize_t size = readlink(link.c_str(), path.data(), path.size());
    if (size == -1) ThrowFailure(info.Env(), {ErrorOf(fd, errno), "readlink"});
    // A path that fills the buffer may have been cut.
    if (static_cast<size_t>(size) < path.size()) {
      return Napi::String::New(info.Env(), path.data(), static_cast<size_t>(size));
    }
  }
}

Napi::Value CloseDescriptor(const Napi::CallbackInfo& info) {
  return Start<CloseWorker>(info, DescriptorArgument(info, 0));
}

}  // namespace imageio
