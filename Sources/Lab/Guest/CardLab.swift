public import Foundation

/// Three guests that stand for a watched machine, for the GPU and network card in it, and for a remote host.
///
/// The card sees the watched guest's RAM as a PCI device, as a card sees its host's, and runs `grassd` with software
/// RDMA: so the watched guest's CPUs and kernel take no part, and may die. The remote host is a guest of its own, or,
/// where nothing has to happen on the way between them, the card once more.
public final class CardLab: Sendable {
  public let watched: Guest?
  public let card: Guest
  public let remote: Guest
  /// Where `grassd` answers in the card.
  public let url: String
  /// What sits between card and remote host, where that was asked for.
  public let tap: WireTap?

  private static let cardAddress = "10.71.0.1"
  private static let remoteAddress = "10.71.0.2"
  /// Of this machine, for the guests: RDMA devices, and loss and delay on the way.
  private static let tools = ["/usr/bin/rdma", "/usr/sbin/tc"]

  /// Boots the guests and starts `grassd` in the card, where there is something to watch.
  ///
  /// - Parameters:
  ///   - programs: the directory of `grassd`, `grassctl` and `linkcheck`.
  ///   - watching: the guest to watch, or nil for none.
  ///   - hasRemote: whether the remote host is a guest of its own.
  ///   - tools: paths of more programs of this machine, for the card and the remote host.
  ///   - slots: how `grassd` is to lay out its slots, as it takes it; by default few: each client has the region pinned for itself,
  ///     which takes an emulated card seconds where the region is as large as usual.
  ///   - kernel: which kernel the card and the remote host boot.
  ///   - isTapped: whether somebody sits on the cable between the card and the remote host.
  /// - Throws: ``LabError`` where a guest does not come up or `grassd` does not serve.
  public init(
    programs: URL, watching: GuestOptions?, hasRemote: Bool, tools: [String] = [], slots: String = "--slots 16",
    kernel: String = "6.1", isTapped: Bool = false
  ) throws {
    let own = ["grassd", "grassctl", "linkcheck"].map { programs.appendingPathComponent($0).path }
    let cable = "grass-cable-\(UUID().uuidString)"
    func options(_ address: String, on cable: String, holdsCable: Bool) -> GuestOptions {
      // Without it 6.1 takes the emulated HPET for its clock, each look at which costs more than a whole read over RDMA.
      GuestOptions(
        kernel: kernel, memory: 1024, sleepers: nil, commandLine: "tsc=reliable",
        network: .init(address: address, cable: cable, holdsCable: holdsCable), programs: own + Self.tools + tools)
    }
    let watched = try watching.map { try Guest($0) }
    var cardOptions = options(Self.cardAddress, on: cable, holdsCable: true)
    cardOptions.watched = watched.map { .init(path: $0.memoryPath, size: $0.options.memory) }
    let card = try Guest(cardOptions)
    self.watched = watched
    self.card = card
    let tap = isTapped ? try WireTap(holding: cable) : nil
    self.tap = tap
    remote =
      hasRemote ? try Guest(options(Self.remoteAddress, on: tap?.cable ?? cable, holdsCable: false)) : card
    url = "verbs://\(Self.cardAddress):7471"
    if watched != nil { try startDaemon(slots) }
  }

  /// Starts `grassd` in the card, and waits until it answers.
  private func startDaemon(_ slots: String) throws {
    let script = """
      for device in /sys/bus/pci/devices/*; do
        [ "$(cat $device/vendor)$(cat $device/device)" = 0x1af40x1110 ] && echo 1 > $device/enable && memory=$device/resource2
      done
      grassd --memory $memory --listen \(url) \(slots) > /tmp/grassd.out 2> /tmp/grassd.log &
      echo $! > /tmp/grassd.pid
      for i in $(seq 300); do grep -q ready /tmp/grassd.out && exit 0; kill -0 $! 2> /dev/null || break; sleep 0.1; done
      cat /tmp/grassd.out /tmp/grassd.log
      exit 1
      """
    let output = try card.run(script)
    guard output.status == 0 else { throw LabError("grassd does not answer in the card: \(output.text)") }
  }

  /// Loses, delays or orders what the card sends, as netem is told: `loss 5%`, `delay 20ms`; nil for nothing of it.
  public func disturb(_ guest: Guest, _ netem: String?) throws {
    let output = try guest.run(
      // Named by its path: the shell would take busybox's own.
      "/bin/tc qdisc del dev eth0 root 2> /dev/null; \(netem.map { "/bin/tc qdisc add dev eth0 root netem \($0)" } ?? "true")"
    )
    guard output.status == 0 else { throw LabError("tc in a guest: \(output.text)") }
  }

  public func shutDown() {
    for guest in [remote, card, watched] { guest?.shutDown() }
  }
}
