// Loaded before the suite: its server listens on one loopback address alone, and every name that its client calls is this machine.
'use strict'
const dns = require('node:dns')
const net = require('node:net')

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port) {
  return listen.call(this, { port: Number(port), host: '127.0.0.2' })
}

dns.lookup = (name, options, done) => {
  const call = typeof options === 'function' ? options : done
  const address = net.isIP(name) ? name : '127.0.0.1'
  if (options.all) return call(null, [{ address, family: 4 }])
  return call(null, address, 4)
}
