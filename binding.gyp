# What `npm install` runs. node-gyp only hands over: CMakeLists.txt is the one description of the build.
{
  "targets": [
    {
      "target_name": "omerta",
      "type": "none",
      "actions": [
        {
          "action_name": "native",
          "inputs": ["CMakeLists.txt"],
          # Never made, so that the action always runs; it knows itself whether it is up to date.
          "outputs": ["always"],
          "action": ["node", "scripts/native.mjs"],
        }
      ],
    }
  ]
}
