#include "system_call_worker.h"

namespace imageio {

SystemCallWorker::SystemCallWorker(Napi::Env env, const char* name)
    : Napi::AsyncWorker(env, name), deferred_(Napi::Promise::Deferred::New(env)) {}

void SystemCallWorker::OnOK() {
  const Napi::Env env = Env();
  if (failure_.error != 0) {
    deferred_.Reject(AddonData::Of(env).MakeError(env, failure_));
    return;
  }
  deferred_.Resolve(Result(env));
  Delivered();
}

// An exception left Call(): there was no memory.
void SystemCallWorker::OnError(const Napi::Error& error) { deferred_.Reject(error.Value()); }

}  // namespace imageio
