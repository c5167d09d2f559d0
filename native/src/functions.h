#ifndef IMAGEIO_NATIVE_FUNCTIONS_H_
#define IMAGEIO_NATIVE_FUNCTIONS_H_

#include <napi.h>

// The functions that the addon exports; their arguments and results are typed and described in
// native/index.ts.
namespace imageio {

// memory.cc
Napi::Value AllocateAligned(const Napi::CallbackInfo& info);
Napi::Value IsAligned(const Napi::CallbackInfo& info);
Napi::Value PageSize(Napi::Env env);

// open.cc
Napi::Value OpenPath(const Napi::CallbackInfo& info);
Napi::Value Reopen(const Napi::CallbackInfo& info);
Napi::Value DescriptorPath(const Napi::CallbackInfo& info);
Napi::Value CloseDescriptor(const Napi::CallbackInfo& info);

// status.cc
Napi::Value Status(const Napi::CallbackInfo& info);

// transfer.cc
Napi::Value Pread(const Napi::CallbackInfo& info);
Napi::Value Pwrite(const Napi::CallbackInfo& info);
Napi::Value Fdatasync(const Napi::CallbackInfo& info);

// allocate.cc
Napi::Value Truncate(const Napi::CallbackInfo& info);
Napi::Value Fallocate(const Napi::CallbackInfo& info);

// block_device.cc
Napi::Value BlockDeviceSize(const Napi::CallbackInfo& info);
Napi::Value BlockDeviceSectorSize(const Napi::CallbackInfo& info);
Napi::Value BlockDeviceZeroOut(const Napi::CallbackInfo& info);
Napi::Value BlockDeviceDiscard(const Napi::CallbackInfo& info);

// data_ranges.cc
Napi::Value FindDataRanges(const Napi::CallbackInfo& info);

// digest.cc
Napi::Value DigestAlgorithms(Napi::Env env);
Napi::Value CreateDigest(const Napi::CallbackInfo& info);
Napi::Value UpdateDigest(const Napi::CallbackInfo& info);
Napi::Value ReadDigest(const Napi::CallbackInfo& info);
Napi::Value UpdateDigestNow(const Napi::CallbackInfo& info);
Napi::Value FinishDigest(const Napi::CallbackInfo& info);

// exit.cc
void Exit(const Napi::CallbackInfo& info);

// locks.cc
Napi::Value IsLocked(const Napi::CallbackInfo& info);

// unix_socket.cc
Napi::Value PeerCredentials(const Napi::CallbackInfo& info);
Napi::Value HasPeerEnded(const Napi::CallbackInfo& info);
void SendDatagram(const Napi::CallbackInfo& info);

// transport/door.cc
Napi::Function DefineFrontDoor(Napi::Env env);

// nbd/door.cc
Napi::Function DefineNbdDoor(Napi::Env env);
Napi::Value ConnectUnix(const Napi::CallbackInfo& info);

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_FUNCTIONS_H_
