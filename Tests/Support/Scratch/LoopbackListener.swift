import Glibc

/// A socket that takes connections at a port of 127.0.0.1 that nobody else has; whoever asks for it closes it.
package func loopbackListener() throws -> (socket: Int32, port: UInt16) {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  var size = socklen_t(MemoryLayout<sockaddr_in>.size)
  let isBound = withUnsafeMutablePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
      bind(listener, name, size) == 0 && listen(listener, 128) == 0 && getsockname(listener, name, &size) == 0
    }
  }
  guard isBound else {
    let failure = Scratch.Failure(what: "a listening socket")
    close(listener)
    throw failure
  }
  return (listener, UInt16(bigEndian: address.sin_port))
}
