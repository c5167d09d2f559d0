/** The test vectors of checksum.md, 5. */
import type { DigestAlgorithm } from '../../../daemon/operations/checksum.js'

const MiB = 1024 * 1024

export const IMAGES = {
  V0: () => Buffer.alloc(0),
  V1: () => Buffer.from('a'),
  V2: () => Buffer.alloc(4096),
  V3: () => Buffer.alloc(MiB),
  V4: () => Buffer.alloc(4 * MiB),
  V5: () => Buffer.concat([Buffer.from('abc'), Buffer.alloc(MiB - 3)]),
  V6: () => Buffer.concat([Buffer.alloc(MiB, 1), Buffer.alloc(MiB)]),
  V7: () => Buffer.concat([Buffer.alloc(MiB), Buffer.alloc(MiB, 1)]),
  V8: () => Buffer.alloc(MiB + 512),
  V9: () => Buffer.concat([Buffer.alloc(4 * MiB, 1), Buffer.alloc(4 * MiB), Buffer.alloc(MiB, 2)]),
  V10: () => Buffer.from(Uint8Array.from({ length: 3145735 }, (_, index) => index % 251)),
} as const

export interface Vector {
  readonly image: keyof typeof IMAGES
  readonly algorithm: DigestAlgorithm
  readonly blockSize: number
  readonly checksum: string
}

const vector = (
  image: keyof typeof IMAGES,
  algorithm: DigestAlgorithm,
  mebibytes: readonly number[],
  checksum: string,
): Vector[] => mebibytes.map((count) => ({ image, algorithm, blockSize: count * MiB, checksum }))

export const VECTORS: readonly Vector[] = [
  ...vector(
    'V0',
    'blake2b',
    [1, 4],
    '0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8',
  ),
  ...vector(
    'V0',
    'sha256',
    [1, 4],
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  ),
  ...vector(
    'V1',
    'blake2b',
    [1, 4],
    '3d4b9478848e85771d9d678f2d80966bf9ea36f0d05b44fe5b23433e14a3eace',
  ),
  ...vector(
    'V1',
    'sha256',
    [1, 4],
    'bf5d3affb73efd2ec6c36ad3112dd933efed63c4e1cbffcfa88e2759c144f2d8',
  ),
  ...vector(
    'V2',
    'blake2b',
    [1, 4],
    'd4d5553a0d486f15e173aa7e7a399fe392831036ad93f2c0888d01d3cb11747f',
  ),
  ...vector(
    'V2',
    'sha256',
    [1, 4],
    'bb9112be14e7f7bedba9636f28a83d12784188a1aca78da399c6e61e35f06144',
  ),
  ...vector(
    'V3',
    'blake2b',
    [1, 4],
    '17836e1ad3e6b310afd84ca98acc7db488700832a2ba565d060ae2ef49b0e8f3',
  ),
  ...vector(
    'V3',
    'sha256',
    [1, 4],
    '599d71033d700ac892a0e48fa61b125d2f59941bb45da1909444d43c6ee0bab2',
  ),
  ...vector(
    'V4',
    'blake2b',
    [1],
    '4ec820e68fcc0f96dbbb68ac6b9941f2450e91b345a571cc51789531616771fd',
  ),
  ...vector(
    'V4',
    'blake2b',
    [4],
    '452c15acb24a13d389311055aa1090397752d5c419dd7842600b0db09770b66c',
  ),
  ...vector(
    'V4',
    'sha256',
    [1],
    '98515a346c0286694cc36f5fcc0b3f2f828bbed96b13a198a004552886242318',
  ),
  ...vector(
    'V4',
    'sha256',
    [4],
    'c7e946d101855255d919ef0c70718633adf77d3dfb3adeeecf5d0cb4e951be58',
  ),
  ...vector(
    'V5',
    'blake2b',
    [1, 4],
    'aafad177df9dd30accb325fd4bd4ef8760f32073c549bdf59a63db6b54221095',
  ),
  ...vector(
    'V5',
    'blake2s',
    [4],
    '61c3379b1bff23c3ff833e32b21af63838d5d25fb7997729a993036a73452bc8',
  ),
  ...vector(
    'V5',
    'sha256',
    [1, 4],
    'a947eb9601a167afa4efd8c13bf4576af5060ab12b2d3a4d911c8f60d17d2079',
  ),
  ...vector('V5', 'sha1', [4], 'e8057de75c72d4aaf3680124ec9b131ad79e9084'),
  ...vector('V5', 'md5', [1], '60639e1ce39a5130e0b38dc3e04e008f'),
  ...vector(
    'V5',
    'sha3_256',
    [4],
    'a8492a19b9fbc91f62ca3e85dec4c61073fe4eba47d710ce46a6a0457877b123',
  ),
  ...vector(
    'V6',
    'blake2b',
    [1],
    'edf2646d0b2ca896079064a69d4b1cec99f872e40ddf17fb96ce5b3cffe1e5e8',
  ),
  ...vector(
    'V6',
    'blake2b',
    [4],
    '681b071f1b5475e83f311b22a22e8b577f9a7d5a71942c2675c33ca975bc2af7',
  ),
  ...vector(
    'V6',
    'sha256',
    [1],
    '920aa8cbdd52a22b8530d60cbb18931e083d86cc7ada31c2fb1455d34776683b',
  ),
  ...vector(
    'V7',
    'blake2b',
    [1],
    '425c03958b333647a8deef3cee98364c6971c1755399b9c66d7fad0df9f5e153',
  ),
  ...vector(
    'V7',
    'sha256',
    [1],
    '56000aae067539dced6beb96e22a17d7a596e8824a93fc35dd06c13fba9e9a1b',
  ),
  ...vector(
    'V8',
    'blake2b',
    [1],
    '3129487b3bd907bfd235952086718bc3a3d11db15b3c49345b7eaa100b6c8faf',
  ),
  ...vector(
    'V8',
    'blake2b',
    [4],
    'a1e684352a4c97f6768744cf53de0c1fa18a0451d4ce14a7793a5f20fa7484a4',
  ),
  ...vector(
    'V8',
    'sha256',
    [1],
    'b332aa47b97f80fc983c615482b9e7ae5ed9f22576a5b14f06139aa3c6da9461',
  ),
  ...vector(
    'V9',
    'blake2b',
    [1],
    '5af26be091f512b50ece97955eae82554748d1d63816c474029ff0a333e167e0',
  ),
  ...vector(
    'V9',
    'blake2b',
    [4],
    '556e021bf2ab867a7aa77881673990e8f1d88e4fec0c48e555c50411f8cc6c83',
  ),
  ...vector(
    'V9',
    'sha256',
    [4],
    '0cc92077f31836a07fe0919a40a33f1007ad3c5f4979bf9d1d6b9a930585099b',
  ),
  ...vector(
    'V10',
    'blake2b',
    [1],
    'c157fbe498d837eb38649521eb4edd94b57170cef1c4f2c9479769071585c042',
  ),
  ...vector(
    'V10',
    'blake2b',
    [4],
    '3b84ff5f4818ec859f9075ecd932659fc52b267b61f419f3669404091d554ff3',
  ),
  ...vector(
    'V10',
    'blake2s',
    [4],
    'c7778bb8f67a370c6963f7fa56496db81e4305ca91b91014caa948ca22d178e6',
  ),
  ...vector(
    'V10',
    'sha256',
    [1],
    'e8151160bec7863f2716c27ec070b313a993c067b18d532e9e749330491a2e1a',
  ),
  ...vector(
    'V10',
    'sha256',
    [4],
    '9f3208643bc5a9d081649a12ac05370971501aac8834917cf04eba442b80a995',
  ),
  ...vector('V10', 'sha1', [4], '5ace8740c0303688fc8ede3eff95c30f71eadb7c'),
  ...vector('V10', 'md5', [1], '49293076547ed8e1f3e0897fa0d2a7f6'),
  ...vector(
    'V10',
    'sha3_256',
    [4],
    'f46a292e1c26b3889ce5a6abadabb9be4bacaece26548b91e9f10c84632e6658',
  ),
  ...vector(
    'V10',
    'sha512',
    [1],
    '38c181a32e96193582f982545a71d7ae032babcc419a06e3c4a9dd8e577f802f9af25eb49050e8e66a1027e195384e48593f79895d899c21e1e74e06943bd598',
  ),
]
