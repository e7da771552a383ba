import CVerbs
import Glibc
import Host

/// Why an RDMA resource could not be made or used.
public struct VerbsError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The kernel knows no RDMA device, or its connection manager is not there.
    case noDevice
    /// A host's name or address could not be resolved.
    case badHost(String)
    /// A call of the RDMA libraries failed, with this errno.
    case call(String, code: Int32)
    /// A device's memory could be registered neither as a dma-buf nor by its address, with the errno of each.
    case deviceMemory(dmaBuffer: Int32, address: Int32)
    /// The connection manager reported this instead of what was waited for.
    case event(String, status: Int32)
    /// The other side refused the connection, with these bytes.
    case rejected([UInt8])
    /// What was waited for did not come in time.
    case deadlinePassed
  }

  public var reason: Reason

  public init(_ reason: Reason) { self.reason = reason }

  /// For a call that just failed and left its errno.
  init(errnoOf call: String) { self.init(.call(call, code: errno)) }

  public var description: String {
    switch reason {
    case .noDevice:
      """
      this machine has no RDMA device that its kernel knows. With a card: load its driver, ib_uverbs and rdma_ucm. \
      Without one, a software device does: modprobe -a ib_uverbs rdma_ucm rdma_rxe; \
      rdma link add rxe0 type rxe netdev eth0
      """
    case .badHost(let why): "the host cannot be resolved: \(why)"
    case .call(let call, let code) where call == "ibv_reg_mr" && (code == ENOMEM || code == EAGAIN):
      "memory cannot be registered: too little may be locked; raise `ulimit -l`"
    case .call(let call, let code): "\(call) failed: \(SystemCall.describe(code))"
    case .deviceMemory(let dmaBuffer, let address):
      """
      a GPU's memory cannot be registered: as a dma-buf, \(SystemCall.describe(dmaBuffer)); by its address, which needs \
      the module nvidia_peermem, \(SystemCall.describe(address)). Software devices (rxe, siw) take only host memory: \
      have the region lie there
      """
    case .event(let name, let status):
      "the connection manager reports \(name)" + (status < 0 ? ": \(SystemCall.describe(-status))" : " (\(status))")
    case .rejected(let bytes): "the other side refused: \(String(decoding: bytes, as: UTF8.self))"
    case .deadlinePassed: "the other side did not answer in time"
    }
  }
}
