import Crypto
import Glibc
import Memory

/// What an image has of each 16 MiB of memory, appended as they are finished: the journal of an image that is not whole, and for
/// the newest image of a host what says which pages have changed since.
///
/// ```
/// for each window: u64 its number (address divided by 16 MiB)
///                  so far, in bytes: u64 read, u64 of digests, u64 by which the store grew, u64 unread
///                  32 names of leaves
///                  ChaCha20-Poly1305 of the digest of each page, low word first: 12 bytes nonce, 65536 bytes, 16 bytes tag
/// ```
/// Sealed under the store's secret, with SHA-256 of the image's plan and all that comes before as what goes with it.
struct WindowJournal {
  /// A window: what is known of 4096 frames.
  struct Window: Sendable {
    var number: UInt64
    var counts = StoredImage.Counts()
    /// Names of the nodes of level 1.
    var leaves: [ObjectName]
    /// Of each page the digest of the bytes that its name is of; zero where there is none.
    var digests: [MemoryDigest]
  }

  static let bytes: UInt64 = 16 << 20
  static let frames = 4096, leaves = 32, framesPerLeaf = 128
  private static let openSize = 40 + leaves * 32
  static let windowSize = openSize + 12 + frames * 16 + 16

  let path: String
  let descriptor: CInt
  private let key: SymmetricKey
  private let plan: [UInt8]

  /// The journal at a path, to be read, or appended to.
  init(_ path: String, _ secret: StoreSecret, plan: [UInt8], writing: Bool = false) throws(StoreError) {
    (self.path, key, self.plan) = (path, secret.sealing, plan)
    descriptor = try StoreFiles.open(path, writing ? O_RDWR | O_CREAT : O_RDONLY)
  }

  func close() { Glibc.close(descriptor) }

  /// How many windows it has whole.
  var count: Int { Int(clamping: ((try? StoreFiles.size(descriptor, path)) ?? 0) / UInt64(Self.windowSize)) }

  /// The number of the window at a place, which is believed only when the window was opened.
  func number(_ index: Int) -> UInt64? {
    let bytes = try? StoreFiles.read(descriptor, UInt64(index) * UInt64(Self.windowSize), count: 8, path)
    return bytes.flatMap { try? ByteReader($0.span.bytes).u64(0) }
  }

  /// The leaves of the window at a place, whether it is as it was written or not.
  func leaves(_ index: Int) -> [ObjectName] {
    let offset = UInt64(index) * UInt64(Self.windowSize) + 40
    let bytes = try? StoreFiles.read(descriptor, offset, count: Self.leaves * ObjectName.size, path)
    return bytes.map(ImageTree.names) ?? []
  }

  /// The window at a place in the order of the file; nil where it is not as it was written.
  func window(_ index: Int) -> Window? {
    guard
      let bytes = try? StoreFiles.read(
        descriptor, UInt64(index) * UInt64(Self.windowSize), count: Self.windowSize, path),
      bytes.count == Self.windowSize, let box = try? ChaChaPoly.SealedBox(combined: bytes[Self.openSize...]),
      let digests = (try? ChaChaPoly.open(box, using: key, authenticating: plan + bytes[..<Self.openSize])).map({
        [UInt8]($0)
      })
    else { return nil }
    let reader = ByteReader(bytes.span.bytes)
    func number(_ offset: Int) -> UInt64 { (try? reader.u64(offset)) ?? 0 }
    var window = Window(
      number: number(0), leaves: ImageTree.names(Array(bytes[40..<Self.openSize])),
      digests: digests.withUnsafeBytes { bytes in
        (0..<Self.frames).map { index in
          MemoryDigest(
            low: bytes.loadUnaligned(fromByteOffset: index * 16, as: UInt64.self),
            high: bytes.loadUnaligned(fromByteOffset: index * 16 + 8, as: UInt64.self))
        }
      })
    (window.counts.read, window.counts.digests) = (number(8), number(16))
    (window.counts.stored, window.counts.unread) = (number(24), number(32))
    return window
  }

  /// Writes a window at its place in the order of the file; over what is there, where its pages were read again.
  func write(_ window: Window, at index: Int) throws(StoreError) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.windowSize)
    let counts = window.counts
    for number in [window.number, counts.read, counts.digests, counts.stored, counts.unread] {
      withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
    }
    for leaf in window.leaves { leaf.append(to: &bytes) }
    var digests: [UInt8] = []
    digests.reserveCapacity(Self.frames * 16)
    for digest in window.digests {
      for word in [digest.low, digest.high] { withUnsafeBytes(of: word.littleEndian) { digests += $0 } }
    }
    guard let box = try? ChaChaPoly.seal(digests, using: key, authenticating: plan + bytes) else {
      throw StoreError(path, .damaged("digests cannot be sealed"))
    }
    bytes += box.combined
    guard lseek(descriptor, off_t(index) * off_t(Self.windowSize), SEEK_SET) >= 0 else {
      throw .system(path, "lseek", errno)
    }
    try StoreFiles.write(bytes, to: descriptor, path)
  }
}
