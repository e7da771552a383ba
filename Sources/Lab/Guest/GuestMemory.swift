/// A guest's RAM: it can be there before the guest boots, and stays where the guest is ended and another boots in it.
///
/// An anonymous file: it is gone with the last process that holds it, and takes no room but for what was written.
public final class GuestMemory: Sendable {
  private let file: AnonymousFile

  /// Where it can be opened as long as this process lives.
  public var path: String { file.path }

  /// Makes memory; in huge pages of 2 MiB, of which the machine must have enough set aside (vm.nr_hugepages), where it is to.
  public init(mebibytes: Int, inHugePages: Bool = false) throws(LabError) {
    file = try AnonymousFile(name: "grass-ram", count: mebibytes << 20, inHugePages: inHugePages)
  }
}
