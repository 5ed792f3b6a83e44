"""What the machine is: constants, kinematics, actuation and the interface table. numpy only."""
