import Crypto
import Keys
import Memory

/// The secret of a store, 32 random bytes in its file `key`: what digests are made under, and what they are sealed with.
///
/// Who has it can make memory whose change is not seen, or learn from the digests which pages are alike; so it is for the
/// store's owner only (mode 0600). Without it the store is as good, but the next image is read as a whole.
struct StoreSecret: Sendable {
  private let key: SymmetricKey

  static let size = 32

  /// The secret of a store, made where there is none.
  ///
  /// - Throws: ``StoreError`` where it cannot be read, or others can read it.
  init(_ path: String, creating: Bool) throws(StoreError) {
    do throws(KeyError) {
      if creating, !KeyFile.exists(path) {
        var random = SystemRandomNumberGenerator()
        let bytes = (0..<Self.size).map { _ in UInt8.random(in: 0 ... .max, using: &random) }
        try KeyFile.write(bytes, to: path, mode: 0o600, replacing: false)
      }
      key = try KeyFile.withContents(of: path, .secret, limit: Self.size) { bytes in SymmetricKey(data: bytes) }
    } catch {
      throw StoreError(error)
    }
    guard key.bitCount == Self.size * 8 else { throw StoreError(path, .damaged("it is no key of a store")) }
  }

  private func derived(_ purpose: String, _ size: Int) -> SymmetricKey {
    HKDF<SHA256>.deriveKey(inputKeyMaterial: key, info: Array("grass store 1 \(purpose)".utf8), outputByteCount: size)
  }

  /// What the digests of a host's pages are made under.
  func seed(of host: String) -> MemoryDigest.Seed {
    derived("seed \(host)", 16).withUnsafeBytes { bytes in
      MemoryDigest.Seed(
        bytes.loadUnaligned(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
  }

  /// What they are sealed with.
  var sealing: SymmetricKey { derived("seal", 32) }
}
