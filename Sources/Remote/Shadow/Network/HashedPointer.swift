import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Addresses as the kernel shows them to people: hashed with a key of its own, so that they tell one thing from another and no more.
///
/// Source: lib/vsprintf.c, `restricted_pointer` and `ptr_to_id`; lib/siphash.c.
struct HashedPointer: Sendable {
  private enum Form {
    case hashed(UInt64, UInt64)
    case plain
    case hidden
  }

  private let form: Form

  init(_ kernel: Kernel) throws {
    let symbols = kernel.symbols
    let restriction = symbols.address(of: "kptr_restrict") == nil ? 0 : try kernel.number("kptr_restrict")
    let isPlain =
      try symbols.address(of: "no_hash_pointers").map { try kernel.addressSpace.read($0, count: 1)[0] != 0 } ?? false
    if restriction >= 2 {
      form = .hidden
    } else if restriction == 1 || isPlain {
      // To who may read the log, as root may.
      form = .plain
    } else {
      let key = try kernel.words("ptr_key", 2)
      guard key != [0, 0] else { throw ShadowError.unreadable("the host has not chosen a key for its addresses yet") }
      form = .hashed(key[0], key[1])
    }
  }

  /// As `%pK` writes it.
  func text(_ address: VirtualAddress) -> String {
    switch form {
    case .hidden: return ProcText.hex(0, 16)
    case .plain: return ProcText.hex(address.rawValue, 16)
    case .hashed(let first, let second):
      return ProcText.hex(Self.sipHash(address.rawValue, first, second) & 0xffff_ffff, 16)
    }
  }

  /// SipHash-2-4 of one word.
  static func sipHash(_ word: UInt64, _ first: UInt64, _ second: UInt64) -> UInt64 {
    var v = (
      0x736f_6d65_7073_6575 ^ first, 0x646f_7261_6e64_6f6d ^ second, 0x6c79_6765_6e65_7261 ^ first,
      0x7465_6462_7974_6573 ^ second
    )
    func turned(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }
    func round() {
      v.0 = v.0 &+ v.1
      v.1 = turned(v.1, 13) ^ v.0
      v.0 = turned(v.0, 32)
      v.2 = v.2 &+ v.3
      v.3 = turned(v.3, 16) ^ v.2
      v.0 = v.0 &+ v.3
      v.3 = turned(v.3, 21) ^ v.0
      v.2 = v.2 &+ v.1
      v.1 = turned(v.1, 17) ^ v.2
      v.2 = turned(v.2, 32)
    }
    // The word, and its length of eight bytes.
    for block in [word, 8 << 56] {
      v.3 ^= block
      round()
      round()
      v.0 ^= block
    }
    v.2 ^= 0xff
    for _ in 0..<4 { round() }
    return v.0 ^ v.1 ^ v.2 ^ v.3
  }
}
