import CVerbs
import Glibc

/// Memory that a device may access by itself, and the keys that allow it.
///
/// The memory stays its owner's, who must outlive this. The corresponding C type is `ibv_mr`.
public final class MemoryRegion: @unchecked Sendable {
  // Immutable after init.
  public struct Access: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// The device may write on behalf of this side: the target of a read or a receive.
    public static let localWrite = Access(rawValue: IBV_ACCESS_LOCAL_WRITE.rawValue)
    public static let remoteRead = Access(rawValue: IBV_ACCESS_REMOTE_READ.rawValue)
    /// Implies ``localWrite``, as the specification demands.
    public static let remoteWrite = Access(
      rawValue: IBV_ACCESS_REMOTE_WRITE.rawValue | IBV_ACCESS_LOCAL_WRITE.rawValue)
  }

  /// Memory of another device, as its driver exports it for direct access.
  public struct DMABuffer: Sendable {
    public var descriptor: Int32
    /// Where the region starts in the buffer, in bytes.
    public var offset: UInt64

    public init(descriptor: Int32, offset: UInt64) {
      self.descriptor = descriptor
      self.offset = offset
    }
  }

  private let region: UnsafeMutablePointer<ibv_mr>
  private let domain: ProtectionDomain

  /// Registers `count` bytes at `address`.
  ///
  /// Memory of a GPU is registered through its DMA buffer where the device can do that, and by its address where a
  /// peer-memory module does it instead. Relaxed ordering is never asked for. Cost: pins every page. The corresponding C
  /// functions are `ibv_reg_dmabuf_mr` and `ibv_reg_mr`.
  public init(
    domain: ProtectionDomain, address: UnsafeMutableRawPointer, count: Int, access: Access,
    dmaBuffer: DMABuffer? = nil
  ) throws(VerbsError) {
    let rights = Int32(access.rawValue)
    var region: UnsafeMutablePointer<ibv_mr>?
    if let dmaBuffer {
      region = ibv_reg_dmabuf_mr(
        domain.domain, dmaBuffer.offset, count, UInt64(UInt(bitPattern: address)), dmaBuffer.descriptor, rights)
    }
    let failure = errno
    region = region ?? grass_verbs_register(domain.domain, address, count, rights)
    guard let region else {
      if dmaBuffer != nil { throw VerbsError(.deviceMemory(dmaBuffer: failure, address: errno)) }
      throw VerbsError(errnoOf: "ibv_reg_mr")
    }
    self.region = region
    self.domain = domain
  }

  deinit { ibv_dereg_mr(region) }

  public var localKey: UInt32 { region.pointee.lkey }
  public var remoteKey: UInt32 { region.pointee.rkey }

  public func belongs(to other: ProtectionDomain) -> Bool { domain === other }
}
