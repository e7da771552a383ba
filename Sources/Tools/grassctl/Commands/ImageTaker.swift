import ArgumentParser
import Detection
import Glibc
import Host
import Output
import Synchronization

/// Findings for which an image of the host's memory is taken, as they are given on the command line: names of detectors, and `hang` for
/// those by which a host stands still.
struct DumpReasons: ExpressibleByArgument {
  let detectors: Set<String>

  /// A host that stands still, or of which some CPUs do.
  private static let hang = ["stopped", "hard-lockup", "soft-lockup", "rcu-stall"]

  init?(argument: String) {
    var detectors: Set<String> = []
    for name in argument.split(separator: ",") {
      if name == "hang" {
        detectors.formUnion(Self.hang)
      } else if Detectors.all.contains(where: { $0.name == name }) {
        detectors.insert(String(name))
      } else {
        return nil
      }
    }
    guard !detectors.isEmpty else { return nil }
    self.detectors = detectors
  }
}

/// Takes an image of the host's memory for the first finding of a kind in each of its boots, beside whatever else is done: by a
/// process of its own, which is started again where the link ends before the image is whole.
final class ImageTaker: Sendable {
  private let host: String
  private let reasons: DumpReasons
  private let folder: String
  private let options: [String]
  private let state = Mutex<(isBusy: Bool, done: Set<String>)>((false, []))

  /// Seconds between two tries.
  private static let pause: UInt32 = 2
  private static let mostTries = 150

  /// `options` are what `grassctl dump` is told beside host and file.
  init(_ host: String, on reasons: DumpReasons, to folder: String, options: [String]) {
    (self.host, self.reasons, self.folder, self.options) = (host, reasons, folder, options)
  }

  /// Begins an image if `finding` is what one is to be taken for.
  func see(_ finding: Finding) {
    guard reasons.detectors.contains(finding.detector) else { return }
    // With the next boot it is over, and the next one is another.
    guard finding.state != .closed else {
      state.withLock { _ = $0.done.remove(finding.id) }
      return
    }
    // A panic is found once more by whoever watches anew, and is the same.
    guard
      state.withLock({ state in
        guard !state.isBusy, state.done.insert(finding.id).inserted else { return false }
        state.isBusy = true
        return true
      })
    else { return }
    let path = "\(folder)/\(finding.detector)-\(Self.now()).kdump"
    do throws(SystemCallError) {
      let detector = finding.detector
      let thread = try DedicatedThread(name: "grass-dump") { [self] in
        take(path, detector)
        state.withLock { $0.isBusy = false }
      }
      thread.detach()
    } catch {
      state.withLock { $0.isBusy = false }
      writeNote("no image is taken for \(finding.detector): \(error)")
    }
  }

  /// Waits until an image that was begun is whole, or given up.
  func finish() { while state.withLock(\.isBusy) { usleep(50_000) } }

  private func take(_ path: String, _ detector: String) {
    writeNote("\(detector): the host's memory goes to \(path)")
    for _ in 0..<Self.mostTries {
      guard let status = run(path) else { return }
      if access(path, F_OK) == 0 {
        writeNote("\(path) is whole\(status == 0 ? "" : "; what could not be read of it was said")")
        return
      }
      // Only a host that cannot be reached is worth another try.
      guard status == ExitStatus.unreachable.rawValue else {
        writeNote("\(path) is not whole, and is given up: \(path).part has what there is")
        return
      }
      sleep(Self.pause)
    }
    writeNote("\(path) is not whole, and the host cannot be reached any more: \(path).part has what there is")
  }

  /// The exit status of one try; nil where it could not be started.
  private func run(_ path: String) -> Int32? {
    do throws(SystemCallError) {
      let process = try spawn(["/proc/self/exe", "dump", "--host", host, "-o", path] + options)
      var status: Int32 = 0
      guard SystemCall.retrying({ Int(waitpid(process, &status, 0)) }) == Int(process) else { return nil }
      return status & 0x7f == 0 ? status >> 8 & 0xff : nil
    } catch {
      writeNote("no image is taken: \(error)")
      return nil
    }
  }

  private static func now() -> String {
    var seconds = time(nil)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y%m%dT%H%M%SZ", &parts)
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
