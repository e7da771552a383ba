import CRegion
import Devices
import LinkConformance
import Links
import Memory
import Paging
import Region
import Remote

/// A device as those see it who lend its slots.
private struct Slots: SlotKeeper {
  let device: CPUDevice
  let openMemory: [OpenSegment]
  var isKeyed: Bool { device.isKeyed }
  func assist() {}
  func release(_ slots: Range<Int>) {
    device.release(slots)
    device.setWindows(nil, for: slots.lowerBound)
  }
  func wantsWindows(_ slots: Range<Int>) -> Bool { device.wantsWindows(slots.lowerBound) }
  func setWindows(_ windows: [RemotePart]?, _ slots: Range<Int>) {
    let list = windows?.map { part in
      grass_memory_window(
        start: UInt64(part.range.lowerBound), count: UInt64(part.range.count), high: part.token.high,
        low: part.token.low)
    }
    device.setWindows(list, for: slots.lowerBound)
  }
}

/// Memory in this process, a device that watches it, and a responder: the monitored side, whole.
final class WatchedHost {
  final class Bytes {
    let base: UnsafeMutableRawPointer
    let count: Int

    init(_ count: Int) {
      self.count = count
      base = .allocate(byteCount: count, alignment: 4096)
      base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    }

    deinit { base.deallocate() }
  }

  let bytes: Bytes
  let region: SharedRegion
  let device: CPUDevice
  /// The device's own key, where sessions need keys.
  let publicKey: [UInt8]?
  let responder: TCPResponder
  /// Serves the same region as if it lay in a device's memory.
  private let copier: TCPResponder
  private let path: String

  /// `count` bytes at physical 0 in a file of the temporary directory.
  ///
  /// With `keys`, sessions need them. Where it is open, sessions with the right to read it past the device.
  init(
    count: Int = 8 << 20, layout: RegionLayout? = nil, keys: [grass_key_line]? = nil, isOpen: Bool = false
  ) throws {
    bytes = Bytes(count)
    path = "/tmp/grass-test-\(UInt64.random(in: 0 ... .max))"
    region = try SharedRegion(path: path, layout: try layout ?? RegionLayout(keys: keys != nil))
    let regionLayout = region.layout
    let keyring = try keys.map { try Keyring(for: regionLayout, lines: $0) }
    publicKey = keyring?.publicKey
    device = try CPUDevice(
      region: region,
      segments: [
        MappedSegment(
          bytes: UnsafeRawPointer(bytes.base),
          segment: MemorySegment(start: PhysicalAddress(0), count: UInt64(count)))
      ], owner: bytes, keyring: keyring)
    if isOpen { _ = device.openMemory() }
    let open = OpenSegment(start: 0, bytes: UnsafeRawBufferPointer(start: bytes.base, count: count), lost: nil)
    let slots = Slots(device: device, openMemory: isOpen ? [open] : [])
    responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0, keeper: slots)
    copier = try TCPResponder(
      region: SharedRegion(layout: region.layout, in: CopiedMemory(region)), host: "127.0.0.1", port: 0,
      keeper: slots)
  }

  deinit {
    responder.stop()
    copier.stop()
    device.stop()
  }

  func store(_ value: UInt64, at address: Int) {
    bytes.base.storeBytes(of: value, toByteOffset: address, as: UInt64.self)
  }

  var sharedMemory: LinkAddress { .sharedMemory(path: path) }
  func address(_ kind: Kind) -> LinkAddress {
    switch kind {
    case .sharedMemory: sharedMemory
    case .tcp: responder.address
    case .copies: copier.address
    }
  }

  enum Kind: CaseIterable, Sendable {
    case sharedMemory
    case tcp
    /// TCP, of a region in a device's memory.
    case copies
  }
}
