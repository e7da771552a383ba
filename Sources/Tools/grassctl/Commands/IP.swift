import ArgumentParser
import KernelViews
import Output

struct IP: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ip",
    abstract: "Shows interfaces, addresses, neighbours and routes of every network namespace.",
    discussion: """
      NETNS is the number that /proc/PID/ns/net shows. A driver that counts packets in structures of its own has no \
      counters here.
      """)

  enum Part: String, ExpressibleByArgument, CaseIterable {
    case addr, neigh, route
  }

  @Argument(help: "addr, neigh or route; addr where none is given.")
  var part: Part = .addr

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let network = try reporting { try kernel.network() }
    switch part {
    case .addr: printInterfaces(network.interfaces)
    case .neigh: printNeighbours(network.neighbours)
    case .route: printRoutes(network.routes)
    }
    try reportFaults(network.faults)
  }

  private func printInterfaces(_ interfaces: [NetworkInterface]) {
    if output.json {
      writeOutput(JSON.lines(interfaces.map { json(of: $0) }))
      return
    }
    var table = Table([
      ("NETNS", .right), ("IF", .right), ("NAME", .left), ("STATE", .left), ("MTU", .right), ("LINK", .left),
      ("RX-PACKETS", .right), ("RX-BYTES", .right), ("TX-PACKETS", .right), ("TX-BYTES", .right), ("ADDRESSES", .left),
    ])
    for interface in interfaces {
      let counters = interface.counters.map {
        ["\($0.receivedPackets)", "\($0.receivedBytes)", "\($0.sentPackets)", "\($0.sentBytes)"]
      }
      table.add(
        [
          "\(interface.namespace)", "\(interface.index)", interface.name.printable,
          (interface.isUp ? "UP" : "DOWN") + (interface.isPromiscuous ? ",PROMISC" : ""), "\(interface.mtu)",
          "\(interface.hardwareAddress)",
        ] + (counters ?? ["-", "-", "-", "-"])
          + [interface.addresses.map { "\($0.address)/\($0.prefixLength)" }.joined(separator: " ")])
    }
    writeOutput(table.text())
  }

  private func json(of interface: NetworkInterface) -> JSON {
    .object([
      ("netns", .unsigned(interface.namespace)), ("ifindex", .integer(interface.index)),
      ("ifname", .bytes(interface.name)), ("flags", .integer(interface.flags)), ("up", .bool(interface.isUp)),
      ("promiscuous", .bool(interface.isPromiscuous)), ("promiscuity", .integer(interface.promiscuity)),
      ("allmulti", .integer(interface.allMulticast)), ("mtu", .integer(interface.mtu)),
      ("type", .integer(interface.type)), ("operstate", .integer(interface.operationalState)),
      ("address", .string("\(interface.hardwareAddress)")),
      (
        "addr_info",
        .array(
          interface.addresses.map { address in
            .object([
              ("family", .string(address.address.bytes.count == 4 ? "inet" : "inet6")),
              ("local", .string("\(address.address)")), ("prefixlen", .integer(address.prefixLength)),
              ("peer", address.peer.map { .string("\($0)") } ?? .null), ("scope", .integer(address.scope)),
            ])
          })
      ),
      (
        "stats",
        interface.counters.map { counters in
          .object([
            ("rx_packets", .unsigned(counters.receivedPackets)), ("rx_bytes", .unsigned(counters.receivedBytes)),
            ("tx_packets", .unsigned(counters.sentPackets)), ("tx_bytes", .unsigned(counters.sentBytes)),
          ])
        } ?? .null
      ),
      ("net_device", .string("\(interface.device)")),
    ])
  }

  private func printNeighbours(_ neighbours: [Neighbour]) {
    if output.json {
      writeOutput(
        JSON.lines(
          neighbours.map { neighbour in
            .object([
              ("netns", .unsigned(neighbour.namespace)), ("dst", .string("\(neighbour.address)")),
              ("dev", .bytes(neighbour.interface)), ("lladdr", .string("\(neighbour.hardwareAddress)")),
              ("state", .string(neighbour.stateName)),
            ])
          }))
      return
    }
    var table = Table([
      ("NETNS", .right), ("ADDRESS", .left), ("DEV", .left), ("LINK", .left), ("STATE", .left),
    ])
    for neighbour in neighbours {
      table.add([
        "\(neighbour.namespace)", "\(neighbour.address)", neighbour.interface.printable,
        "\(neighbour.hardwareAddress)", neighbour.stateName,
      ])
    }
    writeOutput(table.text())
  }

  private func printRoutes(_ routes: [Route]) {
    if output.json {
      writeOutput(
        JSON.lines(
          routes.map { route in
            .object([
              ("netns", .unsigned(route.namespace)), ("table", .integer(route.table)),
              ("type", .string(route.typeName)), ("dst", .string("\(route.destination)")),
              ("prefixlen", .integer(route.prefixLength)),
              ("gateway", route.gateway.map { .string("\($0)") } ?? .null), ("dev", .bytes(route.interface)),
              ("metric", .integer(route.metric)), ("protocol", .integer(route.origin)),
            ])
          }))
      return
    }
    var table = Table([
      ("NETNS", .right), ("TABLE", .right), ("TYPE", .left), ("DESTINATION", .left), ("GATEWAY", .left),
      ("DEV", .left), ("METRIC", .right), ("ORIGIN", .right),
    ])
    for route in routes {
      table.add([
        "\(route.namespace)", "\(route.table)", route.typeName, "\(route.destination)/\(route.prefixLength)",
        route.gateway.map { "\($0)" } ?? "", route.interface.printable, "\(route.metric)", "\(route.origin)",
      ])
    }
    writeOutput(table.text())
  }
}
