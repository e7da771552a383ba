/// Figures of measurements, drawn by gnuplot.
public enum Plot {
  public enum Format: String, Sendable {
    case svg
    case png

    var terminal: String {
      switch self {
      case .svg: "svg size 900,420 font 'Helvetica,13' background 'white'"
      case .png: "pngcairo size 1350,630 font 'Helvetica,18'"
      }
    }
  }

  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  /// Draws measurements into a file.
  ///
  /// Heartbeats and pings become bars of their means, with the standard deviation; requests and results become lines of
  /// median time and throughput over size, one for each host and sequence.
  public static func draw(_ measurements: [Figure], as format: Format, to path: String) throws(Failure) {
    let script = script(measurements, as: format, to: path)
    do throws(ChildProcess.Failure) {
      _ = try ChildProcess.run("gnuplot", ["-"], input: script)
    } catch {
      throw Failure(description: "no plot in \(path): \(error); Debian has it in the package gnuplot-nox")
    }
  }

  private struct Line: Hashable {
    var host: String
    var what: Figure.What
    var sequence: Figure.Sequence?
  }

  static func script(_ measurements: [Figure], as format: Format, to path: String) -> String {
    let bars = measurements.filter { $0.byteCount == 0 }
    let sized = measurements.filter { $0.byteCount > 0 }
    let hosts = Set(measurements.map(\.host)).count
    func title(_ line: Line) -> String {
      let name =
        line.what == .ping
        ? "ping" : "\(line.what.rawValue)\(line.sequence == .paper ? ", the paper's sequence" : "")"
      return hosts > 1 ? "\(name), \(line.host)" : name
    }
    func quoted(_ text: String) -> String {
      "'" + text.map { $0 == "'" ? "''" : $0 == "\n" ? " " : "\($0)" }.joined() + "'"
    }
    var text =
      "set terminal \(format.terminal) noenhanced\nset output \(quoted(path))\nset grid\nset key below vertical\n"
    let panels = (bars.isEmpty ? 0 : 1) + (sized.isEmpty ? 0 : 2)
    text += "set multiplot layout 1,\(panels)\n"
    if !bars.isEmpty {
      text += "$bars << END\n"
      for (index, bar) in bars.enumerated() {
        let name = title(Line(host: bar.host, what: bar.what, sequence: bar.sequence))
        text += "\(index) \(bar.samples.mean) \(bar.samples.standardDeviation) \"\(name)\"\n"
      }
      text += """
        END
        set title 'Time until the answer'
        set ylabel 'microseconds'
        set yrange [0:*]
        set boxwidth 0.5
        set style fill solid 0.6 border -1
        set xtics rotate by -20
        plot $bars using 1:2:xtic(4) with boxes notitle linecolor rgb '#4477aa', \
          $bars using 1:2:3 with yerrorbars notitle linecolor rgb 'black' pointtype 0
        unset xtics
        set xtics norotate
        set yrange [*:*]

        """
    }
    var lines: [Line] = []
    for one in sized {
      let line = Line(host: one.host, what: one.what, sequence: one.sequence)
      if !lines.contains(line) { lines.append(line) }
    }
    for (index, line) in lines.enumerated() {
      text += "$line\(index) << END\n"
      for one in sized where Line(host: one.host, what: one.what, sequence: one.sequence) == line {
        text += "\(one.byteCount) \(one.samples.percentile(50)) \(one.throughput)\n"
      }
      text += "END\n"
    }
    if !sized.isEmpty {
      let sizes = Set(sized.map(\.byteCount)).sorted()
      let tics = sizes.enumerated().filter { $0.offset % 2 == 0 || sizes.count < 8 }
        .map { "'\(label($0.element))' \($0.element)" }
      text += "set logscale x 2\nset xtics (\(tics.joined(separator: ", ")))\nset xlabel 'size in bytes'\n"
      for (column, name, unit) in [(2, "Time", "microseconds"), (3, "Throughput", "megabytes a second")] {
        text += "set title '\(name)'\nset ylabel '\(unit)'\n"
        text += column == 2 ? "set logscale y\n" : "unset logscale y\nset yrange [0:*]\n"
        text += "plot "
        text += lines.enumerated().map { index, line in
          "$line\(index) using 1:\(column) with linespoints linewidth 2 pointtype \(5 + index * 2) title \(quoted(title(line)))"
        }.joined(separator: ", ")
        text += "\n"
      }
    }
    return text + "unset multiplot\n"
  }

  /// A size as people write it: 64K, 4M.
  public static func label(_ byteCount: Int) -> String {
    for (unit, name) in [(1 << 20, "M"), (1 << 10, "K")] where byteCount >= unit && byteCount % unit == 0 {
      return "\(byteCount / unit)\(name)"
    }
    return "\(byteCount)"
  }
}
