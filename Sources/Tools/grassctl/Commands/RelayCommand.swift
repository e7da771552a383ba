import ArgumentParser
import Glibc
import Host
import Hosts
import Links
import Output
import Remote

struct RelayCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "relay",
    abstract: "Keeps connections to a host to spare, and lends them to others who reach this machine.",
    discussion: """
      Over RDMA a connection is made by the host's own processor and kernel: once they are dead, nobody new gets in. A relay that was \
      started before holds --spare connections, each with a slot, and lends them over TCP: a newcomer gives this machine's address in the place \
      of the host's, and proves himself to the device in the host, whose key is the same; the relay can neither read nor alter what he \
      asks. The relay's own key needs the right watch. Runs until it is ended, and prints "ready URL" once it listens; connections that end \
      are made anew, where the host still can.
      """)

  @Option(help: HostOptions.urlHelp)
  var host: String

  @Option(
    help: ArgumentHelp(
      "Where to listen, as tcp://HOST:PORT; for a host without keys, on this machine only.", valueName: "url"))
  var listen: String

  @Option(help: "How many connections to keep: so many can be lent at once.")
  var spare = 2

  @Option(help: "Seconds to wait for the host at first.")
  var timeout: Double = 5

  func validate() throws {
    if !(1...64).contains(spare) { throw ValidationError("--spare takes 1 to 64.") }
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  func run() throws {
    guard let place = try? LinkAddress(listen).kind as? TCPAddress, let address = place.host else {
      throw ValidationError("--listen takes tcp://HOST:PORT.")
    }
    // Whom the user does not know yet is asked for once.
    try HostOptions.connect(host, timeout: timeout, slots: 1).close()
    let destination = try HostOptions.destination(host)
    let to = try LinkAddress(destination.address)
    let relay = try reporting {
      try Relay(
        to: to, keys: HostTrust(destination, to).keys(), spares: spare, listen: address, port: place.port)
    }
    relay.look(tell)
    writeOutput("ready \(relay.address)\n")
    fflush(nil)
    while true {
      sleep(1)
      relay.look(tell)
    }
  }

  /// Says what has become of a connection; what goes on failing, once.
  private func tell(_ event: Relay.Event) {
    let text = "\(event)"
    let isNew = Self.last.withLock { last in
      defer { last = text }
      return last != text
    }
    if isNew { writeNote(text) }
  }

  private static let last = Locked("")
}
