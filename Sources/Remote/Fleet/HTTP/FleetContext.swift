import Hummingbird
import Logging
import NIOCore

/// What belongs to one request.
struct FleetContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  /// The address that it comes from, without its port.
  let address: String
  var viewer: Viewer?

  init(source: Source) {
    coreContext = .init(source: source)
    address = source.channel.remoteAddress?.ipAddress ?? ""
  }

  /// What a form or an object may have at most, in bytes.
  var maxUploadSize: Int { 64 * 1024 }
}
