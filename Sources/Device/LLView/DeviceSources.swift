import CDeviceSources

/// The texts of what runs on devices, which this program has with it.
enum DeviceSources {
  /// What is there for these uses, in its order.
  static func list(_ uses: grass_source_use...) -> [(name: String, text: [UInt8])] {
    var count: UInt = 0
    let sources = UnsafeBufferPointer(start: grass_sources(&count), count: Int(count))
    return sources.filter { uses.contains($0.use) }.map { source in
      (String(cString: source.name), Array(UnsafeBufferPointer(start: source.bytes, count: Int(source.count))))
    }
  }
}
