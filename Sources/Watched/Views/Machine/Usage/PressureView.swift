public import LinuxKernel
public import Views

/// How much work waits for a resource, as /proc/pressure shows it.
public struct PressureView: KernelView {
  public static let name = "psi"
  public static let group = ViewGroup.memory
  public static let summary = "Shows how much work waits for CPUs, memory and I/O: the kernel's pressure information."
  public static let discussion = """
    SOME is the share of time in which some task waited, FULL that in which none could go on: percent of the last 10, 60 \
    and 300 seconds, and microseconds in total, as in /proc/pressure, as of the kernel's last update.
    """

  public static func columns(_ options: NoOptions) -> [ViewColumn<Pressure>] {
    [ViewColumn("RESOURCE", "resource") { $0.resource.rawValue }.identity]
      + stall("some") { $0.some } + stall("full") { $0.full }
  }

  /// Four columns of a table, and one object in JSON.
  private static func stall(
    _ name: String, _ stall: @escaping @Sendable (Pressure) -> Pressure.Stall?
  ) -> [ViewColumn<Pressure>] {
    let windows = ["avg10", "avg60", "avg300"]
    let averages = windows.indices.map { index in
      ViewColumn<Pressure>("\(name)-\(windows[index])".uppercased(), isRightAligned: true) { pressure in
        stall(pressure)?.averages[index].hundredths ?? ""
      }
    }
    let total = ViewColumn<Pressure>("\(name)-total".uppercased(), isRightAligned: true) { pressure in
      stall(pressure).map { "\($0.total)" } ?? ""
    }
    let json = ViewColumn<Pressure>(json: name) { pressure -> ViewValue in
      guard let stall = stall(pressure) else { return .absent }
      return .object(zip(windows, stall.averages).map { .init($0, $1) } + [.init("total", stall.total)])
    }.with("avg10", "avg60", "avg300", in: .percent).with("total", in: .microseconds)
    return averages + [total, json]
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<Pressure> {
    ViewRows(try kernel.pressure())
  }
}
