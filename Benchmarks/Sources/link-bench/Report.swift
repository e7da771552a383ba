import Foundation
import LinkBench
import Measuring

/// Rows of a table on standard output, and every figure as a line of a file.
final class Report {
  private let raw: FileHandle?
  private var hasHead = false

  init() {
    raw = ProcessInfo.processInfo.environment["GRASS_RESULTS"].flatMap { path in
      FileManager.default.createFile(atPath: path, contents: nil) ? FileHandle(forWritingAtPath: path) : nil
    }
  }

  func progress(_ text: String) { FileHandle.standardError.write(Data("link-bench: \(text)\n".utf8)) }

  func row(_ what: String, _ figure: String, _ goal: String) {
    if !hasHead { write("| what | figure | goal or peer |\n| --- | --- | --- |\n") }
    hasHead = true
    write("| \(what) | \(figure) | \(goal) |\n")
    note("# \(what): \(figure) (\(goal))")
  }

  func note(_ line: String) { raw?.write(Data((line + "\n").utf8)) }

  func figure(_ name: String, _ samples: Samples) {
    note(
      "\(name): count \(samples.count) mean \(samples.mean) stddev \(samples.standardDeviation) min \(samples.minimum) 50% \(samples.percentile(50)) 90% \(samples.percentile(90)) 99% \(samples.percentile(99)) max \(samples.maximum) us"
    )
  }

  func figure(_ one: Figure) {
    let size = one.byteCount > 0 ? " of \(Plot.label(one.byteCount))" : ""
    figure("\(one.what.rawValue)\(size), \(one.sequence?.rawValue ?? "-"), \(one.host)", one.samples)
  }

  private func write(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }
}

func percent(_ share: Double) -> String { "\(digits(share * 100, 0))%" }
