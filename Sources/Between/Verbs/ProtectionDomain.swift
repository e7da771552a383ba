import CVerbs
import Glibc

/// What keeps apart the memory and the connections of different sessions: a key of one domain opens nothing in another.
///
/// Queue pairs and memory regions hold it. The corresponding C type is `ibv_pd`.
public final class ProtectionDomain: @unchecked Sendable {
  // Immutable after init.
  let domain: UnsafeMutablePointer<ibv_pd>
  private let connection: Connection

  /// A domain on the device of `connection`, which has been resolved or requested.
  public init(connection: Connection) throws(VerbsError) {
    guard let context = connection.context else { throw VerbsError(.noDevice) }
    guard let domain = ibv_alloc_pd(context) else { throw VerbsError(errnoOf: "ibv_alloc_pd") }
    self.domain = domain
    self.connection = connection
  }

  deinit { ibv_dealloc_pd(domain) }
}
