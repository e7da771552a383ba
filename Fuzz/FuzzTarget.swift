import Glibc

/// A parser to be fed with bytes: it may refuse them, and must not trap, loop, or take much memory.
struct FuzzTarget: Sendable {
  let name: String
  /// Inputs to start from, for those targets whose input is not simply a file of the parsed format.
  let seeds: @Sendable () -> [[UInt8]]
  /// What has to be done once before inputs are run.
  var prepare: @Sendable () -> Void = {}
  let run: @Sendable ([UInt8]) -> Void

  static let all: [FuzzTarget] = [
    .images, .walk, .coreInfo, .kallsyms, .types, .log, .tasks, .mailbox, .handshake, .sealed, .keyFiles, .remote,
    .runtime,
    .views,
  ]

  /// The one that GRASS_FUZZ_TARGET names: libFuzzer keeps the command line for itself.
  static let chosen: FuzzTarget = {
    let name = getenv("GRASS_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = all.first(where: { $0.name == name }) else {
      print("Set GRASS_FUZZ_TARGET to one of: \(all.map(\.name).joined(separator: " ")).")
      exit(64)
    }
    return target
  }()
}

/// Ends the run where something that must hold does not.
func require(_ condition: Bool, _ what: @autoclosure () -> String) {
  guard !condition else { return }
  fatalError(what())
}

@_cdecl("LLVMFuzzerInitialize")
public func initialize(
  _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
) -> CInt {
  if getenv("GRASS_FUZZ_LIST") != nil {
    for target in FuzzTarget.all { print(target.name) }
    exit(0)
  }
  guard let folder = getenv("GRASS_FUZZ_SEEDS").map({ String(cString: $0) }) else {
    FuzzTarget.chosen.prepare()
    return 0
  }
  for (number, seed) in FuzzTarget.chosen.seeds().enumerated() {
    let path = "\(folder)/seed-\(number)"
    guard let file = fopen(path, "w") else { fatalError("cannot write \(path)") }
    fwrite(seed, 1, seed.count, file)
    fclose(file)
  }
  exit(0)
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  FuzzTarget.chosen.run(Array(UnsafeBufferPointer(start: data, count: size)))
  return 0
}
