import Hosts
import Keys
import Links
import Remote

/// How the service connects to hosts: with its own keys, by what it knows of hosts.
struct HostConnection: Sendable {
  private let folder: UserFolder
  private let timeout: Duration

  /// - Parameters:
  ///   - folder: the path of the folder with the service's keys; nil for the user's.
  ///   - timeout: seconds that connecting may take.
  /// - Throws: ``HostsError`` where there is no such folder to speak of.
  init(keys folder: String?, timeout: Double) throws(HostsError) {
    if let folder { self.folder = UserFolder(path: folder) } else { self.folder = try .standard() }
    self.timeout = .seconds(timeout)
  }

  /// Connects; what the folder knows is read anew each time.
  ///
  /// Cost: a connection, and a handshake where the host has keys.
  ///
  /// - Throws: what kept it from connecting, with what to do.
  func session(_ url: String, slots: Int) throws -> Session {
    let destination = try Configuration(contentsOf: folder.configuration, home: nil).destination(url)
    let address = try LinkAddress(destination.address)
    let known = try KnownHosts(contentsOf: folder.knownHosts)
    let keys = try HostTrust(destination, address, in: folder, known: known).keys()
    return try Session(to: address, slots: slots, timeout: timeout, keys: keys)
  }
}
