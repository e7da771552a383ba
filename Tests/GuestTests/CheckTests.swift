import Detection
import Foundation
import Lab
import Testing

extension GuestTests {
  /// What detectors say of guests of which nothing is wrong.
  @Suite(.serialized) struct CheckTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func nothingIsWrongWithAGuestThatIsWell(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let result = try grassctl.run(["check", "--json", "--memory", guest.memoryPath])
      #expect(result.status == 0 && result.text == "[\n]\n", "\(result.text)\(result.errors)")
    }

    @Test func aDeviceThatLooksForNothingSaysSo() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.stop() }
      let watched = try grassctl.run(["watch", "--host", daemon.urls[0], "--once"])
      #expect(watched.status == 3 && watched.errors.contains("--detectors"), "\(watched.errors)")
    }
  }
}
