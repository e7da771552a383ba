import ArgumentParser
import KernelViews

struct Strings: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "strings", abstract: "Lists the printable strings in physical memory, each with its address.")

  @Option(name: .shortAndLong, help: "The fewest characters.")
  var shortest = 8

  @Option(help: "Only strings that contain this text.")
  var containing: String?

  @OptionGroup var source: SourceOptions

  func validate() throws {
    if !(1...4096).contains(shortest) { throw ValidationError("--shortest takes 1 to 4096.") }
  }

  func run() throws {
    let kernel = try source.openKernel()
    var text: [UInt8] = []
    func write(_ address: PhysicalAddress, _ string: [UInt8]) -> Bool {
      text += Array("\(address) ".utf8) + string + [10]
      if text.count > 1 << 16 {
        writeOutput(text)
        text = []
      }
      return true
    }
    let faults =
      if let containing {
        kernel.forEachString(shortest: shortest, containing: Array(containing.utf8), write)
      } else {
        kernel.forEachString(shortest: shortest, write)
      }
    writeOutput(text)
    try reportFaults(faults)
  }
}
