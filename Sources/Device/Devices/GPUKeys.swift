import CMailbox
public import CRegion
import CUDA
import Glibc
import Host
import Synchronization

/// Whom a GPU lets in, and by what it is known: handed to each program that runs there, which keeps it where nobody else reaches.
public struct GPUKeys: Sendable {
  /// Whom it lets in at first.
  public var lines: [grass_key_line]
  /// Whether a list is taken later, too, that this machine hands over.
  public var followsLists: Bool
  /// Calls what it is given with the device's own private key, 32 bytes, or with nil where the GPU is to make one.
  ///
  /// It is asked once for each program.
  public var identity: @Sendable ((UnsafeRawBufferPointer?) -> Void) throws(DeviceError) -> Void
  /// What certifies that key; empty for nothing.
  public var certificate: [UInt8]

  public init(
    lines: [grass_key_line], followsLists: Bool, certificate: [UInt8] = [],
    identity: @escaping @Sendable ((UnsafeRawBufferPointer?) -> Void) throws(DeviceError) -> Void
  ) {
    self.lines = lines
    self.followsLists = followsLists
    self.certificate = certificate
    self.identity = identity
  }
}

/// The pinned memory by which a host and a GPU's program with keys talk.
final class GPUDoor: @unchecked Sendable {
  // The program reads and writes it word by word; on this side, one at a time asks, and one takes events.
  private let pages: PinnedPages
  private let turn = Atomic<Bool>(false)
  private let keys: GPUKeys

  init(_ context: GPUContext, _ keys: GPUKeys) throws(CUDAError) {
    pages = try PinnedPages(context, count: MemoryLayout<grass_gpu_door>.size)
    _ = madvise(pages.base, MemoryLayout<grass_gpu_door>.size, MADV_DONTDUMP)
    self.keys = keys
    door.pointee.list.fill(keys.lines)
  }

  var deviceAddress: UInt64 { pages.deviceAddress }
  private var door: UnsafeMutablePointer<grass_gpu_door> {
    pages.base.assumingMemoryBound(to: grass_gpu_door.self)
  }
  private func place<Value>(of field: KeyPath<grass_gpu_door, Value>) -> UnsafeMutableRawPointer {
    // Stored fields of C structs always have an offset.
    pages.base + (MemoryLayout<grass_gpu_door>.offset(of: field) ?? 0)
  }

  /// The list that the first program begins with.
  var firstList: grass_key_list { door.pointee.list }

  /// Puts down what the next program takes when it begins.
  ///
  /// - Throws: ``DeviceError`` where there is no random number, or the device's own key cannot be had.
  func handOver() throws(DeviceError) {
    let handover = place(of: \.handover).assumingMemoryBound(to: grass_gpu_handover.self)
    explicit_bzero(handover, MemoryLayout<grass_gpu_handover>.size)
    let status = withUnsafeMutableBytes(of: &handover.pointee.seed) { getentropy($0.baseAddress, $0.count) }
    guard status == 0 else { throw DeviceError(.keys("getentropy: \(SystemCall.describe(errno))")) }
    try keys.identity { key in
      guard let key, key.count == 32 else { return }
      withUnsafeMutableBytes(of: &handover.pointee.private_key) { $0.copyMemory(from: key) }
      handover.pointee.has_identity = 1
    }
    handover.pointee.takes_lists = keys.followsLists ? 1 : 0
    let certificate = keys.certificate.prefix(Int(GRASS_MAX_CERTIFICATE))
    withUnsafeMutableBytes(of: &handover.pointee.certificate) { $0.copyBytes(from: certificate) }
    handover.pointee.certificate_length = UInt32(certificate.count)
    grass_store(handover, 1)
  }

  /// Wipes what no program took.
  func takeBack() {
    explicit_bzero(place(of: \.handover), MemoryLayout<grass_gpu_handover>.size)
  }

  /// Whether a program has taken what was handed over, and wiped it.
  var isTaken: Bool {
    let handover = place(of: \.handover)
    guard grass_load(handover) == 0 else { return false }
    return UnsafeRawBufferPointer(start: handover, count: MemoryLayout<grass_gpu_handover>.size).allSatisfy { $0 == 0 }
  }

  var publicKey: [UInt8] { withUnsafeBytes(of: &door.pointee.public_key) { Array($0) } }
  var newestFinding: UInt64 { grass_load(place(of: \.newest_finding)) }
  func takeEvent() -> KeyEvent? {
    KeyEvent.take(from: place(of: \.events).assumingMemoryBound(to: grass_key_events.self))
  }

  /// Has the program forget the sessions of slots.
  func release(_ slots: Range<Int>, while isServed: () -> Bool) {
    ask(while: isServed) {
      grass_store(place(of: \.released), slots.reduce(0) { $0 | 1 << UInt64($1) })
    }
  }

  /// Has it take this list in the place of its own.
  func setKeys(_ lines: [grass_key_line], while isServed: () -> Bool) {
    ask(while: isServed) {
      door.pointee.list.fill(lines)
      grass_store(place(of: \.has_list), 1)
    }
  }

  /// Puts a question and waits for the program, or the next one, to answer it, as long as there is to be one.
  private func ask(while isServed: () -> Bool, _ put: () -> Void) {
    while turn.exchange(true, ordering: .acquiring) { SystemCall.sleep(nanoseconds: 10_000) }
    defer { turn.store(false, ordering: .releasing) }
    put()
    let number = grass_load(place(of: \.asked)) + 1
    grass_store(place(of: \.asked), number)
    while grass_load(place(of: \.answered)) != number, isServed() { SystemCall.sleep(nanoseconds: 10_000) }
    grass_store(place(of: \.released), 0)
    grass_store(place(of: \.has_list), 0)
  }
}
