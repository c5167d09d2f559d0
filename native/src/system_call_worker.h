#ifndef IMAGEIO_NATIVE_SYSTEM_CALL_WORKER_H_
#define IMAGEIO_NATIVE_SYSTEM_CALL_WORKER_H_

#include <napi.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "addon_data.h"
#include "retry.h"

namespace imageio {

// One system call, or a few that belong together, on libuv's pool. It owns the promise that the
// caller got: rejected with a SystemError when Fail() was called, else resolved with Result().
class SystemCallWorker : public Napi::AsyncWorker {
 public:
  SystemCallWorker(Napi::Env env, const char* name);

  Napi::Promise Promise() const { return deferred_.Promise(); }

 protected:
  // Runs on the pool and must not touch a JavaScript value.
  virtual void Call() = 0;

  // Converts what Call() found; runs on the JavaScript thread.
  virtual Napi::Value Result(Napi::Env env) { return env.Undefined(); }

  // Runs once the caller's promise was resolved.
  virtual void Delivered() {}

  void Fail(const char* system_call, int error) { failure_ = {error, system_call}; }

  // The result of `call`, repeated after a signal; -1 after Fail().
  template <typename SystemCall>
  auto Try(const char* system_call, SystemCall call) -> decltype(call()) {
    const auto result = RetryInterrupted(call);
    if (result == -1) Fail(system_call, errno);
    return result;
  }

 private:
  void Execute() final { Call(); }
  void OnOK() final;
  void OnError(const Napi::Error& error) final;

  Napi::Promise::Deferred deferred_;
  Failure failure_;
};

// Queues a worker, which deletes itself once its promise is settled.
template <typename Worker, typename... Arguments>
Napi::Value Start(const Napi::CallbackInfo& info, Arguments&&... arguments) {
  auto worker = std::make_unique<Worker>(info.Env(), std::forward<Arguments>(arguments)...);
  const Napi::Promise promise = worker->Promise();
  worker->Queue();
  static_cast<void>(worker.release());
  // The analyzer does not see that the queue owns it now.
  return promise;  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks)
}

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_SYSTEM_CALL_WORKER_H_
