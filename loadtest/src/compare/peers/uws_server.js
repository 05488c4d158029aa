// A relay on uWebSockets.js: rooms are topics, a published message goes to all subscribers, its sender included.
'use strict';
const uws = require('@btc-vision/uwebsockets.js');
const app = uws.App();
app.ws('/*', {
  // As the other servers run: no compression, no time-out.
  compression: uws.DISABLED,
  idleTimeout: 0,
  maxPayloadLength: 64 * 1024,
  // The default of 64 KiB drops messages of a burst without a word; 64 MiB does not.
  maxBackpressure: 64 * 1024 * 1024,
  message: (ws, data) => {
    const message = JSON.parse(Buffer.from(data).toString());
    if (message.t === 'publish') {
      const { room, token, payload } = message;
      // publish() of the app, not of the socket, which would leave out the sender. uWebSockets collects what one turn of
      // the loop publishes and writes it to each subscriber at once.
      app.publish(room, JSON.stringify({ t: 'message', room, token, payload }), false);
      ws.send(JSON.stringify({ t: 'ack', token }), false);
    } else if (message.t === 'join') {
      for (const room of message.rooms) ws.subscribe(room);
      ws.send('{"t":"joined"}', false);
    }
  },
});
app.listen('127.0.0.1', Number(process.argv[2]), (socket) => {
  if (!socket) {
    console.error('cannot listen on port ' + process.argv[2]);
    process.exit(1);
  }
});
