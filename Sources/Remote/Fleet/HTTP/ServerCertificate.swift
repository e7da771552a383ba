import Host
import NIOCore
import NIOSSL

/// The certificate that the service shows, and its key; both can be changed while it runs.
final class ServerCertificate: Sendable {
  /// Why files are no certificate with its key.
  struct Failure: Error {
    /// Which of the configuration's keys names the file.
    let key: String
    let what: String
  }

  private struct Pair: Sendable {
    var chain: [NIOSSLCertificateSource]
    var key: NIOSSLPrivateKeySource
  }

  private let pair: Locked<Pair>

  /// Reads the files, and makes sure that they belong together.
  init(_ tls: FleetConfiguration.TLS) throws(Failure) { pair = Locked(try Self.read(tls)) }

  /// Shows another from the next connection on.
  ///
  /// - Throws: ``Failure``: then it shows the same as before.
  func reload(_ tls: FleetConfiguration.TLS) throws(Failure) {
    let new = try Self.read(tls)
    pair.withLock { $0 = new }
  }

  private static func read(_ tls: FleetConfiguration.TLS) throws(Failure) -> Pair {
    let pair: Pair
    do {
      let chain = try NIOSSLCertificate.fromPEMFile(tls.certificate)
      guard !chain.isEmpty else { throw NIOSSLError.failedToLoadCertificate }
      pair = Pair(
        chain: chain.map { .certificate($0) }, key: .privateKey(try NIOSSLPrivateKey(file: tls.key, format: .pem)))
    } catch NIOSSLError.failedToLoadPrivateKey {
      throw Failure(key: "key", what: "\(tls.key) has no private key in PEM")
    } catch NIOSSLError.failedToLoadCertificate {
      throw Failure(key: "certificate", what: "\(tls.certificate) has no certificate in PEM")
    } catch {
      let isReadable = (try? NIOSSLCertificate.fromPEMFile(tls.certificate)) != nil
      let (key, path) = isReadable ? ("key", tls.key) : ("certificate", tls.certificate)
      throw Failure(key: key, what: "\(path) cannot be read: \(error)")
    }
    do { _ = try NIOSSLContext(configuration: configuration(pair)) } catch {
      throw Failure(key: "key", what: "\(tls.key) is not the key of \(tls.certificate)")
    }
    return pair
  }

  private static func configuration(_ pair: Pair) -> TLSConfiguration {
    var configuration = TLSConfiguration.makeServerConfiguration(certificateChain: pair.chain, privateKey: pair.key)
    configuration.minimumTLSVersion = .tlsv12
    configuration.applicationProtocols = ["http/1.1"]
    return configuration
  }

  /// How the service speaks TLS: each connection gets what is shown when it begins.
  var configuration: TLSConfiguration {
    var configuration = Self.configuration(pair.withLock { $0 })
    configuration.sslContextCallback = { [self] _, promise in
      let pair = pair.withLock { $0 }
      var override = NIOSSLContextConfigurationOverride()
      override.certificateChain = pair.chain
      override.privateKey = pair.key
      promise.succeed(override)
    }
    return configuration
  }
}
