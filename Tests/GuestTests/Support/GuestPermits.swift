import Foundation
import Lab
import Testing

/// How many guests a test runs at once: it waits until so many may.
///
/// On one machine three may, in all processes that test: more of them only take time from each other. Each of three files is a guest's
/// permission, and who holds its lock has it.
struct GuestPermits: SuiteTrait, TestTrait, TestScoping {
  let count: Int
  var isRecursive: Bool { true }

  private static let places = 3
  /// Whether the test at work has its permissions: it may have this trait from several suites around it.
  @TaskLocal private static var isHolding = false
  /// Whether another process runs guests of the same tests.
  ///
  /// One process alone lets one test after the other have them all.
  private static let isShared = ProcessInfo.processInfo.environment["GRASS_TEST_PARTS"] != nil

  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    // A suite's own trait is the innermost, and holds for its tests; what it inherits does nothing.
    guard testCase != nil, test.guestPermits == count, !Self.isHolding else { return try await function() }
    let wanted = Self.isShared ? count : Self.places
    // Who waits for several is the next to get them: nobody takes one from under him.
    let queue = try await Self.lock(["queue"])
    var places = (0..<Self.places).map { "\($0)" }
    var held: [Int32] = []
    for _ in 0..<wanted {
      let (file, name) = try await Self.lock(places)
      held.append(file)
      places.removeAll { $0 == name }
    }
    close(queue.file)
    defer {
      // What others may run now stands still here.
      SharedGuests.shared.rest()
      for file in held { close(file) }
    }
    try await Self.$isHolding.withValue(true) { try await function() }
  }

  /// Takes the lock of the first of these files that is free, without taking a thread while it waits.
  private static func lock(_ names: [String]) async throws -> (file: Int32, name: String) {
    let files = try names.map { name in
      let path = KernelStore().directory.appendingPathComponent("../guests-\(name).lock").path
      let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
      return (file: try #require(file >= 0 ? file : nil, "\(path): \(String(cString: strerror(errno)))"), name: name)
    }
    while true {
      if let taken = files.first(where: { flock($0.file, LOCK_EX | LOCK_NB) == 0 }) {
        for other in files where other.file != taken.file { close(other.file) }
        return taken
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }
}

extension Test {
  /// What its innermost suite or itself says.
  fileprivate var guestPermits: Int? { traits.compactMap { ($0 as? GuestPermits)?.count }.last }
}

extension Trait where Self == GuestPermits {
  /// So many guests at once.
  static func guests(_ count: Int) -> Self { GuestPermits(count: count) }
}
